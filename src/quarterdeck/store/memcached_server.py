"""MemcachedServer: one memcached, through aiomcache, with what aiomcache leaves out.

aiomcache 0.8.2 limits no time, puts a connection back into its pool in the middle of an answer where the caller was
cancelled, so that the next caller reads that answer as its own (its issue 91), and spins for ever without
awaiting where the server closes the connection in the middle of a line. So each operation here has a client of its own,
with one connection, that is used again only after an operation that came to its end; and lines are read otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import aiomcache
from aiomcache.pool import Connection, MemcachePool

from quarterdeck.store.breaker import Breaker

T = TypeVar("T")

OPERATION_TIMEOUT = 0.02
"""Seconds for an operation, the time to connect included."""
SLOT_TIMEOUT = 0.005
"""Seconds to wait for a free connection."""
CONNECTIONS = 4
"""Operations at the same time."""
_BUFFER = 1024 * 1024
"""Bytes that a connection reads ahead, and the longest line: a value comes without a pause in between."""


class Unusable(Exception):
    """Nothing came of an operation; `outcome` is the word under which that is counted.

    An operation that raises it itself says so of a value, not of the server.
    """

    def __init__(self, outcome: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class _Pool(MemcachePool):
    """One connection, which is cut where aiomcache would wait until what is still to be sent has gone."""

    def _do_close(self, conn: Connection) -> None:
        conn.reader.feed_eof()
        conn.writer.transport.abort()

    def cut(self) -> None:
        """Ends the connection at once."""
        while not self._pool.empty():
            self._do_close(self._pool.get_nowait())


class Client(aiomcache.Client):
    """A client with one connection, for one operation at a time."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port, pool_size=1)
        self._pool = self._one = _Pool(host, port, minsize=1, maxsize=1, conn_args={"limit": _BUFFER})

    async def _execute_simple_command(self, conn: Connection, raw_command: bytes) -> bytes:
        conn.writer.write(raw_command)
        await conn.writer.drain()
        line = await conn.reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("the server closed the connection in the middle of an answer")
        return line[:-2]

    async def store(self, key: bytes, value: bytes, seconds: int) -> None:
        """Stores a value. Raises Unusable where the server will not: it may be too large for this one, for example."""
        try:
            stored = await self.set(key, value, seconds)
        except aiomcache.ClientException as error:
            raise Unusable("refused") from error
        if not stored:
            raise Unusable("refused")

    def cut(self) -> None:
        """Ends the connection at once, whatever is under way on it."""
        self._one.cut()


class MemcachedServer:
    """One server: its connections, its limits of time, its breaker."""

    def __init__(self, host: str, port: int) -> None:
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.breaker = Breaker(self.name)
        self._address = (host, port)
        self._idle: list[Client] = []
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._closed = False

    async def run(self, operation: Callable[[Client], Awaitable[T]]) -> T:
        """What the operation returns, on a connection of its own. Raises Unusable, within 25 ms."""
        if self.breaker.refuses:
            raise Unusable("open")
        try:
            async with asyncio.timeout(SLOT_TIMEOUT):
                await self._slots.acquire()
        except TimeoutError:
            raise Unusable("busy") from None
        try:
            return await self._run(operation)
        finally:
            self._slots.release()

    async def _run(self, operation: Callable[[Client], Awaitable[T]]) -> T:
        begun = self.breaker.enter()
        if begun is None:
            raise Unusable("open")
        client = self._idle.pop() if self._idle else Client(*self._address)
        worked, why = None, ""
        try:
            async with asyncio.timeout(OPERATION_TIMEOUT):
                answer = await operation(client)
            worked = True
        except Unusable:
            raise
        except Exception as error:
            # Whatever it is: what a lying server makes aiomcache raise has no common name.
            worked, why = False, type(error).__name__
            raise Unusable("error") from error
        finally:
            if worked and not self._closed:
                self._idle.append(client)
            else:
                client.cut()
            self.breaker.leave(begun, worked=worked, why=why)
        return answer

    async def close(self) -> None:
        """Ends the connections; operations under way end theirs."""
        self._closed = True
        while self._idle:
            self._idle.pop().cut()
        await asyncio.sleep(0)  # the loop tells the streams
