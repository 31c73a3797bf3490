"""Pruner: forgets what is kept for a time only."""

import asyncio

from quarterdeck.engine.meter import Meter
from quarterdeck.engine.trouble import Trouble
from quarterdeck.store.jobs import JobStore

EVERY = 600.0
BATCH = 1000


class Pruner:
    """Every ten minutes deletes first answers that are older than a day, a bounded batch a statement."""

    def __init__(self, jobs: JobStore, meter: Meter) -> None:
        self._jobs = jobs
        self._meter = meter

    async def run(self) -> None:
        """The loop."""
        trouble = Trouble("pruner", self._meter, longest=60.0)
        while True:
            try:
                full = await self._jobs.prune_answers(BATCH) == BATCH
                trouble.over()
                await asyncio.sleep(0 if full else EVERY)
            except Exception as error:  # noqa: BLE001 - sorted there
                await trouble.wait_out(error)
