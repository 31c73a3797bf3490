"""Small web servers whose answers a test writes byte by byte, and that count who comes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec


class Asked(msgspec.Struct, frozen=True):
    """A request as it came: names of headers in lower case, the last of a name counts."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    head: str


Answer = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


def reply(status: int = 200, body: bytes = b"ok", headers: Mapping[str, str] | None = None) -> bytes:
    """A whole answer."""
    fields = {"Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} So\r\n{head}\r\n".encode() + body


class WebServer:
    """A server on a port of its own. `answer` writes the answers; a test may put another in its place."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.connections = 0
        """How many have connected, whatever they sent."""
        self.open = 0
        self.asked: list[Asked] = []
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    def url(self, path: str = "/", host: str = "127.0.0.1", scheme: str = "http") -> str:
        """The address of something on it."""
        return f"{scheme}://{host}:{self.port}{path}"

    def begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Somebody has connected."""
        self.connections += 1
        self.open += 1
        self._writers.add(writer)
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._over(done, writer))

    def _over(self, task: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        self.open -= 1
        self._tasks.discard(task)
        self._writers.discard(writer)
        writer.transport.abort()
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, OSError):
            raise error

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (asked := await _read(reader)) is not None:
            self.asked.append(asked)
            answering = asyncio.ensure_future(self.answer(asked, writer))
            leaving = asyncio.ensure_future(reader.read(1))  # whoever asks says nothing more, unless they hang up
            try:
                await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
                if not answering.done():
                    return
                await answering
                await writer.drain()
                if writer.is_closing():
                    return
            finally:
                for each in (answering, leaving):
                    each.cancel()
                await asyncio.gather(answering, leaving, return_exceptions=True)

    async def stop(self) -> None:
        """Ends every connection."""
        for task in list(self._tasks):
            task.cancel()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, OSError):
        return None
    first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, target, headers, body, head)


def always(answer: bytes) -> Answer:
    """Answers everything with the same bytes."""

    async def give(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return give


def by_path(answers: Mapping[str, bytes]) -> Answer:
    """Answers by the path, and 404 elsewhere."""

    async def give(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(answers.get(asked.target.partition("?")[0], reply(404, b"nothing here")))

    return give


@asynccontextmanager
async def web_server(
    answer: Answer | None = None, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[WebServer]:
    """Yield a server that listens on `host`; afterwards nothing of it is left."""
    server = WebServer(answer or always(reply()))
    listening = await asyncio.start_server(server.begin, host, port, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await asyncio.sleep(0)  # who was just let in
        await server.stop()
        await asyncio.sleep(0)
