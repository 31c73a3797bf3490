"""A line between a service and its database that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, unquote, urlsplit

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Line:
    """Forwards connections to a port of its own to a PostgreSQL server, over TCP or a Unix socket, until it is cut."""

    def __init__(self, dsn: str) -> None:
        self._url = urlsplit(dsn)
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, dsn: str) -> AsyncIterator[Line]:
        """A line that is up; it is cut at the end."""
        line = cls(dsn)
        line._server = await asyncio.start_server(line._take, "127.0.0.1", 0)
        try:
            yield line
        finally:
            await line.cut()

    @property
    def dsn(self) -> str:
        """The same database, reached by the line."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        user = self._url.netloc.rpartition("@")[0] or "postgres"
        return self._url._replace(netloc=f"{user}@127.0.0.1:{port}", query="").geturl()

    async def cut(self) -> None:
        """Ends every connection; new ones are refused."""
        assert self._server is not None
        self._server.close()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = asyncio.current_task()
        assert call is not None
        self._calls.add(call)
        try:
            await self._forward((reader, writer))
        except asyncio.CancelledError:
            pass
        finally:
            writer.transport.abort()
            self._calls.discard(call)

    async def _forward(self, near: Streams) -> None:
        far = await self._open()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(near[0], far[1]))
                group.create_task(_copy(far[0], near[1]))
        finally:
            far[1].transport.abort()

    async def _open(self) -> Streams:
        hosts = parse_qs(self._url.query).get("host", [])
        if self._url.hostname is None and hosts:
            return await asyncio.open_unix_connection(f"{unquote(hosts[0])}/.s.PGSQL.{self._url.port or 5432}")
        return await asyncio.open_connection(self._url.hostname, self._url.port or 5432)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
