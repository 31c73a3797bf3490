"""Pruner: forgets what is kept for a time only."""

import asyncio

from quarterdeck.engine.tasks import Backoff
from quarterdeck.store import pool
from quarterdeck.store.jobs import JobStore
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

EVERY = 600.0
BATCH = 1000


class Pruner:
    """Every ten minutes deletes first answers that are older than a day, a bounded batch a statement."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs

    async def run(self) -> None:
        """The loop."""
        backoff = Backoff(cap=60.0)
        while True:
            try:
                full = await self._jobs.prune_answers(BATCH) == BATCH
                backoff.reset()
                await asyncio.sleep(0 if full else EVERY)
            except Exception as error:
                if not (pool.is_passing(error) or pool.is_conflict(error)):
                    raise
                log.warning("pruner.waits", error=str(error) or type(error).__name__)
                await backoff.pause()
