"""PostgresBus: PostgreSQL's notifications, on a connection of their own. A Bus of the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import asyncpg

from quarterdeck.store import pool
from quarterdeck.store.queries import SQL

CHANNEL = "quarterdeck"
LIMIT = 7500
"""Bytes of a message; the server refuses 8000."""
PING_EVERY = 5.0
"""Seconds between two looks whether anybody is at the other end."""
COMMAND_TIMEOUT = 3.0
"""Seconds that LISTEN, a ping or a NOTIFY may take."""


class PostgresBus:
    """Listens and notifies on one connection beside every pool, which waits for no disk.

    NOTIFY takes one lock for the whole cluster when it commits, so it is never part of a transaction that writes.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: asyncpg.Connection | None = None
        self._lost = asyncio.Event()
        self._turn = asyncio.Lock()

    @property
    def limit(self) -> int:
        """The most bytes of a message."""
        return LIMIT

    async def listen(self, on_message: Callable[[str], None], on_connected: Callable[[], None]) -> None:
        """Listens until the connection is lost, which it raises."""
        connection = await pool.open_connection(
            self._dsn, name="bus", command_timeout=COMMAND_TIMEOUT, synchronous_commit="off"
        )
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(CHANNEL, lambda *heard: on_message(str(heard[-1])))
            self._connection, self._lost = connection, lost
            on_connected()
            while not await _set_within(lost, PING_EVERY):
                async with self._turn:
                    await connection.execute(SQL["ping_server"])
            raise ConnectionError("the connection was lost")
        finally:
            self._connection = None
            connection.terminate()

    async def send(self, messages: Sequence[str]) -> None:
        """Notifies everybody who listens, in one transaction."""
        async with self._turn:  # the driver does one thing at a time on a connection
            connection = self._connection
            if connection is None:
                raise ConnectionError("not connected")
            try:
                await connection.execute(SQL["notify"], CHANNEL, messages)
            except BaseException as error:
                if not isinstance(error, asyncpg.PostgresError) or pool.is_passing(error):
                    self._lost.set()  # it may be in the middle of an answer, or there is nobody at the other end
                raise


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
