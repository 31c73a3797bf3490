"""ServedRuntime: the runtime in a process of its own."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from quarterdeck.bootstrap import Runtime
from quarterdeck.config import Settings
from quarterdeck.deck import Quarterdeck
from quarterdeck.domain.errors import Unavailable

THREADS_TO_STOP = 8
"""Threads that a stop finds free, where every handler that still runs blocks one more."""


class ServedRuntime(Runtime):
    """A runtime whose start can be interrupted and told of.

    `start` does not raise: Quart would log a traceback of what is told in one line here, and Hypercorn would keep no
    more than its text. The failure is where every later one is: in `failure`, told by `failed`.
    """

    def __init__(self, settings: Settings, deck: Quarterdeck | None = None) -> None:
        super().__init__(settings, deck)
        self._start_task: asyncio.Task[None] | None = None
        self._stop_task: asyncio.Task[None] | None = None
        self._drained = False

    @property
    def reached(self) -> bool:
        """Whether the database was reached, and the engine runs."""
        try:
            return self.engine is not None
        except Unavailable:
            return False

    async def start(self) -> None:
        """As Runtime.start; what that raises is kept in `failure`."""
        if self._drained:
            return
        self._start_task = asyncio.create_task(super().start(), name="quarterdeck-start")
        try:
            await asyncio.wait({self._start_task})
        except asyncio.CancelledError:
            await self._give_up_start()
            raise
        if not self._start_task.cancelled() and (error := self._start_task.exception()) is not None:
            self._fail(error)

    def drain(self) -> None:
        """As Runtime.drain; a start that is under way is given up."""
        if not self._drained:
            self._drained = True
            # Handlers may have blocked every thread there was; a stop needs some too, for the embedded server.
            threads = ThreadPoolExecutor(self.settings.concurrency + THREADS_TO_STOP, thread_name_prefix="stop")
            asyncio.get_running_loop().set_default_executor(threads)
        if self._start_task is not None:
            self._start_task.cancel()
        super().drain()

    async def stop(self, grace: float | None = None) -> None:
        """As Runtime.stop, once: later calls join the first."""
        if asyncio.current_task() is self._start_task:  # a start that failed cleans up
            await super().stop(grace)
            return
        if self._stop_task is None:
            self._stop_task = asyncio.create_task(self._stop_once(grace), name="quarterdeck-stop")
        await asyncio.shield(self._stop_task)

    async def _stop_once(self, grace: float | None) -> None:
        await self._give_up_start()
        await super().stop(grace)

    async def _give_up_start(self) -> None:
        if self._start_task is not None and not self._start_task.done():
            self._start_task.cancel()
            await asyncio.wait({self._start_task})
