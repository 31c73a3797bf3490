"""Place: where one of several processes of a service stands, and who takes its place when it goes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from quarterdeck.cli.children import ChildProcess
from quarterdeck.engine.tasks import Backoff
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

START_TIMEOUT = 150.0
"""Seconds for a child to serve, before it is killed; longer than Hypercorn gives the database to start."""
STEADY = 5.0
"""Seconds after which a child that ends is replaced at once; one that ends sooner, or never serves, after a pause."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 15.0
"""Seconds, at most, before the first new try and between later ones."""


class Place:
    """Keeps one child that serves, as far as that can be had."""

    def __init__(
        self, start: Callable[[], Awaitable[ChildProcess]], on_failure: Callable[[ChildProcess | None], None]
    ) -> None:
        """`on_failure` hears of a child that ended before it served; None where none could be started."""
        self.child: ChildProcess | None = None
        self.filled = asyncio.Event()
        self._start = start
        self._on_failure = on_failure
        self._previous: ChildProcess | None = None
        self._renewal: asyncio.Future[bool] | None = None
        self._asked = asyncio.Event()
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)

    async def keep(self) -> None:
        """The loop: a child, and another one when it leaves or is to be replaced."""
        while True:
            wanted, self._renewal = self._renewal, None
            self._asked.clear()
            child = await self._begin()
            if child is not None:
                self._previous, self.child = self.child, child
                self.filled.set()
                if self._previous is not None:
                    self._previous.stop()
            if wanted is not None and not wanted.done():
                wanted.set_result(child is not None)
            if self.child is None or not self.child.serves:
                await self._backoff.pause()
                continue
            replaced = await self._until_needed(self.child)
            if self.child.served >= STEADY:
                self._backoff.reset()
            elif not replaced:
                await self._backoff.pause()

    async def renew(self) -> bool:
        """Replaces the child; true when the new one serves and the old one is over, false where it goes on instead."""
        self._renewal = asyncio.get_running_loop().create_future()
        self._asked.set()
        renewed = await self._renewal
        if renewed and self._previous is not None:
            await self._previous.ends()
        return renewed

    async def _begin(self) -> ChildProcess | None:
        try:
            child = await self._start()
        except OSError as error:
            log.warning("process.not_started", error=str(error))
            self._on_failure(None)
            return None
        if await child.begins(START_TIMEOUT):
            return child
        self._on_failure(child)
        return None

    async def _until_needed(self, child: ChildProcess) -> bool:
        """Waits until a new child is needed; says whether because of `renew`."""
        tasks = [asyncio.create_task(child.leaves()), asyncio.create_task(self._asked.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        return child.serves
