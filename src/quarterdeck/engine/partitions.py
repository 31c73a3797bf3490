"""Partitions: makes the coming days' partitions of history and events."""

import asyncio

from quarterdeck.engine.tasks import Backoff
from quarterdeck.store import pool
from quarterdeck.store.upkeep import UpkeepStore
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

EVERY = 3600.0


class Partitions:
    """Looks every hour; a statement that meets a missing partition makes it without waiting for this."""

    def __init__(self, upkeep: UpkeepStore) -> None:
        self._upkeep = upkeep

    async def run(self) -> None:
        """The loop."""
        backoff = Backoff(cap=60.0)
        while True:
            try:
                if made := await self._upkeep.ensure_partitions():
                    log.info("partitions.made", count=made)
                backoff.reset()
                await asyncio.sleep(EVERY)
            except Exception as error:
                if not (pool.is_passing(error) or pool.is_conflict(error)):
                    raise
                await backoff.pause()
