"""Answers of an outside API, kept in the process for a while."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any


class Answers:
    """Keeps each answer for `seconds`, the `most` youngest of them, and asks once for all who want it at the same time.

    Failures are not kept. Each process has answers of its own: with several of them the API is asked once by each.
    """

    def __init__(self, seconds: float, *, most: int = 1000, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._most = most
        self._now = now
        self._kept: dict[str, tuple[float, Any]] = {}
        self._asking: dict[str, asyncio.Task[Any]] = {}

    async def get(self, key: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        """The answer that is kept, or what `ask` brings. Raises what that raises."""
        until, answer = self._kept.get(key, (0.0, None))
        if self._now() < until:
            return answer
        if key not in self._asking:
            self._asking[key] = asyncio.create_task(self._ask(key, ask))
        # Of those who wait one may be cancelled, a job that was stopped for example; the others get their answer.
        return await asyncio.shield(self._asking[key])

    async def close(self) -> None:
        """Asks nothing more."""
        for task in (asking := list(self._asking.values())):
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _ask(self, key: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        try:
            answer = await ask()
        finally:
            del self._asking[key]
        self._kept.pop(key, None)
        self._kept[key] = (self._now() + self._seconds, answer)
        while len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]
        return answer
