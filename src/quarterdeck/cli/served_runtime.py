"""ServedRuntime: the runtime in a process of its own."""

import asyncio
from time import monotonic

from quarterdeck.bootstrap import Runtime
from quarterdeck.config import Settings
from quarterdeck.deck import Quarterdeck
from quarterdeck.domain.errors import Unavailable


class ServedRuntime(Runtime):
    """A runtime whose start can be interrupted and told of, and whose grace period begins with the drain.

    `start` does not raise: Quart would log a traceback of what is told in one line here, and Hypercorn would keep no
    more than its text. The failure is where every later one is: in `failure`, told by `failed`.
    """

    def __init__(self, settings: Settings, deck: Quarterdeck | None = None) -> None:
        super().__init__(settings, deck)
        self._starting: asyncio.Task[None] | None = None
        self._stop: asyncio.Task[None] | None = None
        self._drained_at: float | None = None

    @property
    def reached(self) -> bool:
        """Whether the database was reached, and the engine runs."""
        try:
            return self.engine is not None
        except Unavailable:
            return False

    async def start(self) -> None:
        """As Runtime.start; what that raises is kept in `failure`."""
        if self._drained_at is not None:
            return
        self._starting = asyncio.create_task(super().start(), name="quarterdeck-start")
        try:
            await asyncio.wait({self._starting})
        except asyncio.CancelledError:
            await self._give_up_start()
            raise
        if not self._starting.cancelled() and (error := self._starting.exception()) is not None:
            self._fail(error)

    def drain(self) -> None:
        """As Runtime.drain; a start that is under way is given up."""
        if self._drained_at is None:
            self._drained_at = monotonic()
        if self._starting is not None:
            self._starting.cancel()
        super().drain()

    async def stop(self, grace: float | None = None) -> None:
        """As Runtime.stop, once: later calls join the first."""
        if asyncio.current_task() is self._starting:  # a start that failed cleans up
            await super().stop(grace)
            return
        if self._stop is None:
            self._stop = asyncio.create_task(self._stop_once(grace), name="quarterdeck-stop")
        await asyncio.shield(self._stop)

    async def _stop_once(self, grace: float | None) -> None:
        await self._give_up_start()
        since = monotonic() - self._drained_at if self._drained_at is not None else 0.0
        await super().stop(max(0.0, self.settings.shutdown_grace - since) if grace is None else grace)

    async def _give_up_start(self) -> None:
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait({self._starting})
