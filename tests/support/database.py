"""A real PostgreSQL for the tests: one server a session, one migrated template, a clone of it for each test."""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import msgspec

from tests.support.waiting import eventually

EXTERNAL_SERVER = "QD_TEST_DATABASE_URL"
"""The environment variable that points the tests at a PostgreSQL of your own, as a role that may create databases."""

ROOM = 6 * 2**30
"""Bytes that must be free in memory for the server to live there: its log alone may grow to 4 GiB."""

FAST_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",  # a clone of the template writes no log
    "max_wal_senders": "0",
    "max_connections": "200",
    "max_wal_size": "4GB",  # no checkpoint while the tests run
    "autovacuum": "off",  # statistics change only when a test says so
}

LEAKS = """
    -- What a test left behind in its database: advisory locks, and transactions that nobody ends.
    select 'advisory lock ' || locktype || ' of pid ' || pid || ' (' || mode || ')' as leak
      from pg_locks
     where locktype = 'advisory' and database = (select oid from pg_database where datname = $1)
    union all
    select 'pid ' || pid || ' is ' || state || ' after: ' || left(query, 200)
      from pg_stat_activity
     where datname = $1 and state like 'idle in transaction%'
"""


class TestServer(msgspec.Struct, frozen=True):
    """A running server with a migrated template; plain values, so that it can be sent to another process."""

    __test__ = False

    dsn: str
    """A database to connect to for `create database`."""
    template: str

    def database(self, name: str) -> str:
        """The DSN of the database `name` on this server."""
        return urlunsplit(urlsplit(self.dsn)._replace(path=f"/{name}"))


@contextlib.contextmanager
def running_server() -> Iterator[TestServer]:
    """Start the server and migrate its template; outside any event loop, since a test's loop ends with the test."""
    external = os.environ.get(EXTERNAL_SERVER)
    if external:
        with _template(external) as server:
            yield server
        return
    # A short path of its own: a Unix socket's is limited to some 100 bytes, and pytest's own can be longer than that.
    with (
        tempfile.TemporaryDirectory(prefix="qd-tests-", dir=_memory(), ignore_cleanup_errors=True) as directory,
        _embedded_server(Path(directory)) as dsn,
        _template(dsn) as server,
    ):
        yield server


def _memory() -> str | None:
    """A file system in memory with room for the server, or `None` for the usual temporary folder.

    Every test clones a database and drops it: in memory that takes half the time, and nothing here is worth a disk.
    """
    memory = Path("/dev/shm")
    try:
        roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM
    except OSError:
        return None
    return str(memory) if roomy else None


@contextlib.contextmanager
def _embedded_server(directory: Path) -> Iterator[str]:
    from quarterdeck.store.embedded import EmbeddedPostgres  # noqa: PLC0415 (not needed with an external server)

    postgres = EmbeddedPostgres(directory / "postgres", settings=FAST_SETTINGS)
    asyncio.run(postgres.start())
    try:
        yield postgres.dsn("postgres")
    finally:
        asyncio.run(postgres.stop())


@contextlib.contextmanager
def _template(dsn: str) -> Iterator[TestServer]:
    server = TestServer(dsn, f"qd_template_{uuid4().hex[:12]}")
    asyncio.run(_migrate_template(server))
    try:
        yield server
    finally:
        asyncio.run(drop_database(server, server.template))


async def _migrate_template(server: TestServer) -> None:
    from quarterdeck.store.migrator import Migrator  # noqa: PLC0415 (a broken migrator fails tests, not their collection)

    await _execute(server.dsn, f"create database {server.template}")
    await Migrator(server.database(server.template)).up()


async def create_database(server: TestServer, *, migrated: bool) -> str:
    """Create a database of a test's own and return its name: a clone of the migrated template, or an empty one."""
    name = f"qd_{uuid4().hex[:12]}"
    template = server.template if migrated else "template0"
    # A copy of the files takes a third of the time that writing their pages as log takes.
    await _execute(server.dsn, f"create database {name} template {template} strategy file_copy")
    return name


async def drop_database(server: TestServer, name: str) -> None:
    """Drop the database `name`, cutting whoever is still connected to it."""
    await _execute(server.dsn, f"drop database if exists {name} (force)")


@contextlib.asynccontextmanager
async def fresh_database(server: TestServer, *, migrated: bool, patience: float = 2.0) -> AsyncIterator[str]:
    """Yield the DSN of a database that exists for one test.

    Raises `AssertionError` if a lock or an open transaction is left in it `patience` seconds after the test.
    """
    name = await create_database(server, migrated=migrated)
    try:
        yield server.database(name)
        await _assert_nothing_left(server, name, patience)
    finally:
        await drop_database(server, name)


async def _assert_nothing_left(server: TestServer, name: str, patience: float) -> None:
    connection = await asyncpg.connect(server.dsn)

    async def nothing_left() -> bool:
        leaks = [row["leak"] for row in await connection.fetch(LEAKS, name)]
        assert not leaks, "; ".join(leaks)
        return True

    try:
        await eventually(nothing_left, patience)
    finally:
        await connection.close()


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
