"""Partitions: makes the coming days' partitions of history and events."""

import asyncio

from quarterdeck.engine.meter import Meter
from quarterdeck.engine.trouble import Trouble
from quarterdeck.store.upkeep import UpkeepStore
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

EVERY = 3600.0


class Partitions:
    """Looks every hour; a statement that meets a missing partition makes it without waiting for this."""

    def __init__(self, upkeep: UpkeepStore, meter: Meter) -> None:
        self._upkeep = upkeep
        self._meter = meter

    async def run(self) -> None:
        """The loop."""
        trouble = Trouble("partitions", self._meter, longest=60.0)
        while True:
            try:
                if made := await self._upkeep.ensure_partitions():
                    log.info("partitions.made", count=made)
                trouble.over()
                await asyncio.sleep(EVERY)
            except Exception as error:  # noqa: BLE001 - sorted there
                await trouble.wait_out(error)
