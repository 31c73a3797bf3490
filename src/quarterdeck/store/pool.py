"""Connections: how they are opened, how long anything on them may take, and which failures mean "try again"."""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import asyncpg

from quarterdeck.store import jsonb
from quarterdeck.store.queries import SQL

CONNECT_TIMEOUT = 5.0
"""Seconds to open a connection."""

# Dead peers are noticed in about ten seconds, not after the kernel's two hours. libpq's own names where they exist.
_KEEPALIVE = (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 8000))

# SQLSTATE classes that pass by themselves: connection trouble, shutdown, start-up, a cancelled statement, too many
# connections, a standby.
_PASSING = ("08", "57P01", "57P02", "57P03", "57014", "55000", "53", "25006")
# A statement that lost against another one: the same statement will do the second time.
_CONFLICT = ("40001", "40P01", "55P03")

Pool = asyncpg.Pool
"""A pool of connections, for those who may not import asyncpg."""

API = "api"
"""The name of the pool that answers callers."""

ACQUIRE_TIMEOUT = 1.0
"""Seconds to wait for a free connection."""


async def prepare(connection: Any) -> None:
    """Sets up a fresh connection: JSON by msgspec, dead peers noticed."""
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=jsonb.encode,
        decoder=jsonb.decode,
    )
    peer = connection._transport.get_extra_info("socket")  # noqa: SLF001 - asyncpg has no public way to its socket
    if peer is not None and peer.family in (socket.AF_INET, socket.AF_INET6):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def _leave_as_is(_connection: Any) -> None:
    """In place of asyncpg's reset, a round trip a release: nothing here leaves session state behind."""


def server_settings(name: str) -> dict[str, str]:
    """What every session of this service sets.

    Hot statements are written for the primary key and the claim indexes; a hot table that is nearly always empty would
    tempt the planner to scan it, or to gather a bitmap of all its dead rows, so these sessions do not (design, section
    2). Only the API's may use bitmaps: what it counts needs them. With one plan for all arguments nothing is planned
    twice; planning took as long as running, and the tests of the plans hold each statement to that one, too.
    """
    return {
        "application_name": f"quarterdeck-{name}",
        "enable_seqscan": "off",
        "enable_bitmapscan": "on" if name == API else "off",
        "jit": "off",
        "plan_cache_mode": "force_generic_plan",
        "idle_in_transaction_session_timeout": "10s",
        "TimeZone": "UTC",
    }


async def open_pool(dsn: str, *, name: str, size: int, command_timeout: float) -> asyncpg.Pool:
    """A pool of up to `size` connections; a statement may take `command_timeout` seconds.

    Raises what asyncpg raises where the server cannot be reached; see `is_passing`.
    """
    return await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=size,
        init=prepare,
        reset=_leave_as_is,
        timeout=CONNECT_TIMEOUT,
        command_timeout=command_timeout,
        max_inactive_connection_lifetime=60,
        server_settings=server_settings(name),
    )


def ends_of(ids: Collection[uuid.UUID]) -> tuple[uuid.UUID | None, uuid.UUID | None]:
    """The least and the greatest of `ids`, for statements that look them up in the history.

    PostgreSQL passes over partitions by a range, and not by an array that is a parameter: without it each of them, one
    for every day that is kept, is looked into.
    """
    return min(ids, default=None), max(ids, default=None)


async def fetch(pool: asyncpg.Pool, name: str, *arguments: Any) -> list[asyncpg.Record]:
    """Runs the statement `name` and returns its rows. Waits at most a second for a free connection."""
    async with pool.acquire(timeout=ACQUIRE_TIMEOUT) as connection:
        try:
            return await connection.fetch(SQL[name], *arguments)
        except TimeoutError:
            _cut_idle(pool)
            await _stopped(connection)
            raise
        except asyncio.CancelledError:
            _cut(connection)  # its way back would wait for the server, and what that raises hide the cancel
            raise


def _cut_idle(pool: asyncpg.Pool) -> None:
    """Cuts the connections that wait in the pool: where one fell silent, the others would cost a time limit each."""
    for holder in getattr(pool, "_holders", ()):  # asyncpg has no public way to them
        if holder.is_idle():
            holder.terminate()


async def _stopped(connection: asyncpg.pool.PoolConnectionProxy) -> None:
    """Waits until the server has stopped what ran out of time; cuts a connection on which nobody says so."""
    try:
        await connection.execute(SQL["ping_server"], timeout=ACQUIRE_TIMEOUT)
    except asyncio.CancelledError:
        _cut(connection)
        raise
    except Exception:  # noqa: BLE001 - whatever it is, it is of no more use
        _cut(connection)


def _cut(connection: asyncpg.pool.PoolConnectionProxy) -> None:
    with suppress(asyncpg.InterfaceError):  # the driver has done it, and taken the connection back
        connection.terminate()


async def open_connection(dsn: str, *, name: str, command_timeout: float, **settings: str) -> asyncpg.Connection:
    """One connection of its own, outside every pool; `settings` are its session's beside those of every session."""
    connection = await asyncpg.connect(
        dsn,
        timeout=CONNECT_TIMEOUT,
        command_timeout=command_timeout,
        server_settings={**server_settings(name), **settings},
    )
    try:
        await prepare(connection)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def close_pool(pool: asyncpg.Pool, within: float = 1.0) -> None:
    """Closes a pool; connections that do not come back in `within` seconds are cut."""
    try:
        async with asyncio.timeout(within):
            await pool.close()
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        pool.terminate()


def is_passing(error: BaseException) -> bool:
    """Whether the database could not be reached or could not serve just now: the same call may succeed later."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_PASSING)
    if isinstance(error, ValueError):  # asyncpg's refusal to encode an argument is an InterfaceError too
        return False
    return isinstance(error, OSError | TimeoutError | EOFError | asyncpg.InterfaceError | asyncpg.InternalClientError)


def is_conflict(error: BaseException) -> bool:
    """Whether a statement lost against a concurrent one, or its plan went stale: it can be repeated at once."""
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        return True
    return isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "") in _CONFLICT


def is_temporary(error: BaseException) -> bool:
    """Whether the same statement may succeed when it is tried again: it lost against another, or trouble passes."""
    return is_passing(error) or is_conflict(error)


def is_data_error(error: BaseException) -> bool:
    """Whether a row is to blame: SQLSTATE 22xxx, 23xxx or 54xxx, or a value that the driver cannot encode."""
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return True
    return isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "").startswith(("22", "23", "54"))


def is_duplicate(error: BaseException) -> bool:
    """Whether a row is there already (SQLSTATE 23505)."""
    return isinstance(error, asyncpg.UniqueViolationError)


def error_class(error: BaseException) -> str:
    """What sort of failure it is, for counting: its class of SQLSTATE, `timeout`, `connection`, `driver` or `other`."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "XX000")[:2]
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, OSError | EOFError):
        return "connection"
    return "driver" if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError) else "other"


def is_missing_partition(error: BaseException) -> bool:
    """Whether a row found no partition (SQLSTATE 23514 without a constraint's name)."""
    return isinstance(error, asyncpg.CheckViolationError) and not error.constraint_name
