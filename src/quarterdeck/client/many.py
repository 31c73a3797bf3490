"""Many: an async function over a stream, several at a time, in order, and never far ahead of who takes the results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeVar

from quarterdeck.client.errors import Closed

T = TypeVar("T")
R = TypeVar("R")


class Many:
    """Runs streams; what it has under way ends with `close`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        """Cancels what is under way; whoever waits for it gets Closed."""
        await _cancel(self._tasks)

    async def map(
        self, function: Callable[[T], Awaitable[R]], source: Iterable[T] | AsyncIterable[T], concurrency: int
    ) -> AsyncGenerator[R, None]:
        """The results in the order of the source.

        At most `concurrency` items are read whose results were not taken yet. The first failure, of a call or of the
        source, is raised in its place; what is under way then is cancelled.
        """
        room = asyncio.Semaphore(concurrency)
        calls: asyncio.Queue[asyncio.Task[R] | None] = asyncio.Queue()
        mine: set[asyncio.Task[Any]] = set()

        async def call(item: T) -> R:
            return await function(item)

        def spawn(task: asyncio.Task[Any]) -> None:
            self._tasks.add(task)
            mine.add(task)

        async def read() -> None:
            items = aiter(source) if isinstance(source, AsyncIterable) else _each(source)
            try:
                while True:
                    await room.acquire()
                    try:
                        item = await anext(items)
                    except StopAsyncIteration:
                        return
                    task = asyncio.create_task(call(item))
                    spawn(task)
                    calls.put_nowait(task)
            finally:
                calls.put_nowait(None)

        reader = asyncio.create_task(read())
        spawn(reader)
        try:
            while (task := await calls.get()) is not None:
                result = await _outcome(task)
                self._tasks.discard(task)
                mine.discard(task)
                yield result
                room.release()
            await _outcome(reader)
        finally:
            await _cancel(mine)
            self._tasks -= mine


async def _outcome(task: asyncio.Task[T]) -> T:
    try:
        return await task
    except asyncio.CancelledError:
        asking = asyncio.current_task()
        if task.cancelled() and asking is not None and not asking.cancelling():
            raise Closed("the client was closed") from None
        raise


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    left = list(tasks)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def _each(source: Iterable[T]) -> AsyncIterator[T]:
    for item in source:
        yield item
