"""Resources: what an application's handlers share, open as long as the service runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import Any

from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

CLOSE_TIMEOUT = 1.0
"""Seconds that closing may take; then it is interrupted, and has as long again to end."""
SLOW = 5.0
"""Seconds after which the log says which one is still being opened, because nothing else tells why no service comes."""


class ResourceFailure(Exception):
    """A resource cannot be opened; its cause is what the application's code raised."""


class Resources:
    """Opens resources one after the other, and closes them in the opposite order.

    One task does both, because what is entered may have to be left by the task that entered it (cancel scopes, task
    groups), while a service is started by one task and stopped by another.
    """

    def __init__(
        self, shared: MutableMapping[str, Any], makers: Mapping[str, Callable[[], AbstractAsyncContextManager[Any]]]
    ) -> None:
        """`shared` is where they are put and taken from again; what is there already is not opened."""
        self._shared = shared
        self._makers = makers
        self._task: asyncio.Task[None] | None = None
        self._opened = asyncio.Event()
        self._closing = asyncio.Event()

    async def open(self) -> None:
        """Opens all. Raises ResourceFailure where one cannot be; those before it are closed then."""
        if not self._makers:
            return
        self._task = asyncio.create_task(self._hold(), name="quarterdeck-resources")
        opened = asyncio.create_task(self._opened.wait())
        try:
            await asyncio.wait({self._task, opened}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            opened.cancel()
        if not self._opened.is_set():
            task, self._task = self._task, None
            await task

    async def close(self) -> None:
        """Closes all, and interrupts an opening under way. What goes wrong is logged. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        self._closing.set()
        if self._opened.is_set():
            await asyncio.wait({task}, timeout=CLOSE_TIMEOUT)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CLOSE_TIMEOUT)
        if not task.done() or task.cancelled():
            if self._opened.is_set():
                log.error("resource.close_interrupted", after=CLOSE_TIMEOUT)
        elif (error := task.exception()) is not None and self._opened.is_set():
            log.error("resource.close_failed", exc_info=error)

    async def _hold(self) -> None:
        async with AsyncExitStack() as stack:
            for name, make in self._makers.items():
                if name not in self._shared:
                    await self._enter(stack, name, make)
            self._opened.set()
            await self._closing.wait()

    async def _enter(
        self, stack: AsyncExitStack, name: str, make: Callable[[], AbstractAsyncContextManager[Any]]
    ) -> None:
        slow = asyncio.get_running_loop().call_later(SLOW, partial(log.warning, "resource.opens_slowly", name=name))
        try:
            self._shared[name] = await stack.enter_async_context(make())
        except Exception as error:
            raise ResourceFailure(f"resource {name!r} cannot be opened: {_in_words(error)}") from error
        finally:
            slow.cancel()
        stack.callback(self._forget, name)

    def _forget(self, name: str) -> None:
        with contextlib.suppress(KeyError):
            del self._shared[name]


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
