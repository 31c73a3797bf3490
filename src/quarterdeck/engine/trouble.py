"""Trouble: what a loop does while the database fails it."""

from __future__ import annotations

from quarterdeck.engine.meter import Meter
from quarterdeck.engine.tasks import Backoff
from quarterdeck.store import pool
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)


class Trouble:
    """One loop's: counted, logged and waited out, with growing pauses. Whatever does not pass by itself is raised."""

    def __init__(self, loop: str, meter: Meter, longest: float = 5.0) -> None:
        """`longest` is the most seconds between two tries."""
        self._loop = loop
        self._meter = meter
        self._backoff = Backoff(cap=longest)

    async def wait_out(self, error: Exception) -> None:
        """Pauses after an error, or raises it where the same statement would fail again."""
        self._meter.database_failed(pool.error_class(error))
        if not pool.is_temporary(error):
            raise error
        log.warning("loop.waits", loop=self._loop, error=str(error) or type(error).__name__)
        await self._backoff.pause()

    def over(self) -> None:
        """It works again."""
        self._backoff.reset()
