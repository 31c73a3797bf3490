"""A small HTTP client: kept connections, one request at a time on each, nothing shared that could become a queue.

A client that pools and queues measures itself when thousands of requests wait for a service that is out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
CONNECT_WITHIN = 2.0
IDLE = 64
"""Connections kept for later, at most."""


class Unanswered(Exception):
    """There was no answer, or not all of it; what was asked for may have been done."""


class Response(msgspec.Struct, frozen=True):
    """An answer; the names of its headers are in small letters."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """The body, read. Raises msgspec.DecodeError."""
        return msgspec.json.decode(self.content)


class Client:
    """Asks one service."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._idle: deque[Connection] = deque()

    async def request(
        self, method: str, path: str, *, timeout: float, content: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Response:
        """The answer. Raises Unanswered, also after `timeout` seconds."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}:{self._port}", f"Content-Length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        request = "\r\n".join([*lines, "", ""]).encode() + content
        connection: Connection | None = None
        whole = False
        try:
            async with asyncio.timeout(timeout):
                connection = self._kept() or await self._connect()
                response = await _exchange(connection, request)
            whole = response.headers.get("connection", "").lower() != "close"
            return response
        except (OSError, EOFError, ValueError, IndexError, asyncio.LimitOverrunError) as error:
            raise Unanswered(type(error).__name__) from error
        finally:
            if connection is not None:
                self._put_back(connection, whole=whole)

    def close(self) -> None:
        """Ends all connections."""
        while self._idle:
            self._idle.pop()[1].transport.abort()

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection[0].at_eof() and not connection[1].is_closing():
                return connection
        return None

    async def _connect(self) -> Connection:
        async with asyncio.timeout(CONNECT_WITHIN):
            return await asyncio.open_connection(self._host, self._port)

    def _put_back(self, connection: Connection, *, whole: bool) -> None:
        if whole and len(self._idle) < IDLE:
            self._idle.append(connection)
        else:
            connection[1].transport.abort()


async def _exchange(connection: Connection, request: bytes) -> Response:
    reader, writer = connection
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {}
    for line in head[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    content = await reader.readexactly(int(headers.get("content-length", "0")))
    return Response(int(head[0].split(" ")[1]), headers, content)
