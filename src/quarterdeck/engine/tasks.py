"""Who owns the engine's loops, and how a loop waits out trouble."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)


class Tasks:
    """Every long-lived task of the engine. One that ends by an exception is reported at once, not at shutdown.

    So is one that was cancelled, unless by `cancel`: a cancelled future that a loop waits for ends the loop, too.
    """

    def __init__(self) -> None:
        self.deaths: list[BaseException] = []
        """What loops died of, in order; none should."""
        self._died = asyncio.Event()
        self._cancelling = False
        self._tasks: dict[asyncio.Task[None], str] = {}

    def spawn(self, name: str, loop: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Starts and owns a loop."""
        task = asyncio.create_task(loop, name=f"quarterdeck-{name}")
        self._tasks[task] = name
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        name = self._tasks.pop(task, "?")
        error: BaseException | None
        if task.cancelled():
            error = None if self._cancelling else RuntimeError(f"the loop {name!r} was cancelled")
        else:
            error = task.exception()
        if error is not None:
            log.critical("loop.died", loop=name, exc_info=error)
            self.deaths.append(error)
            self._died.set()

    async def death(self) -> BaseException:
        """Waits until a loop dies, and returns what the first one died of."""
        await self._died.wait()
        return self.deaths[0]

    async def cancel(self) -> None:
        """Cancels whatever still runs and waits for it."""
        self._cancelling = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Signal:
    """A wake-up that is remembered: `set` before `wait` is not lost, several are one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wakes the waiter, now or when it comes."""
        self._event.set()

    async def wait(self, timeout: float | None = None) -> bool:
        """Waits for a wake-up, at most `timeout` seconds, and consumes it; False where the time was over."""
        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Backoff:
    """Growing pauses between tries, with full jitter; no last try."""

    def __init__(self, first: float = 0.1, cap: float = 5.0) -> None:
        self._first = first
        self._cap = cap
        self._tries = 0

    def reset(self) -> None:
        """After a success."""
        self._tries = 0

    def next(self) -> float:
        """Seconds to pause now: at least a fifth of the current ceiling, so that a dead server is never hammered."""
        ceiling = min(self._cap, self._first * 2.0 ** min(self._tries, 30))
        self._tries += 1
        return ceiling * random.uniform(0.2, 1.0)

    async def pause(self) -> None:
        """Sleeps for `next` seconds."""
        await asyncio.sleep(self.next())
