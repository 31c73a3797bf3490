"""Memcacheds that misbehave: what stands between a client and a good one, and what only looks like one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
"""What is done about one line that came."""


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[int]:
    """A server that does as `answer` says with each line; yields its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError):
            while line := await reader.readline():
                await answer(line, writer)
                await writer.drain()
        writer.transport.abort()

    async with _listening(serve, tasks) as port:
        yield port


class Delay:
    """The seconds by which each piece of an answer is late."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


@asynccontextmanager
async def delaying(port: int, delay: Delay) -> AsyncIterator[int]:
    """A far away memcached: the one on `port`, whose answers are late; yields another port."""
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if late:
                    await asyncio.sleep(delay.seconds)
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(pump(reader, there, late=False), pump(there_reader, writer, late=True))
        finally:
            there.transport.abort()

    async with _listening(serve, tasks) as listening:
        yield listening


@asynccontextmanager
async def _listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], tasks: set[asyncio.Task[None]]
) -> AsyncIterator[int]:
    writers: list[asyncio.StreamWriter] = []

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        task = asyncio.ensure_future(serve(reader, writer))
        tasks.add(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
