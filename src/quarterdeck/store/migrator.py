"""Brings a database to the schema of this program, and says how far it is.

Each file runs in one transaction together with its row in `quarterdeck.migration`, so a crash leaves a file either done
or undone. Processes that start together take turns by a transaction-level advisory lock, which is tried and never
waited for: a statement that waits holds a snapshot, and `create index concurrently` in another process, which holds the
lock, would wait for that snapshot, each for the other for ever.

A file that begins with `-- no-transaction` runs statement by statement on a second connection, while the first keeps
the lock in a transaction that is otherwise idle and then writes the row. A session-level lock would be no simpler, and
behind a pooler in transaction mode it would stay with the server's connection. Such a file may be cut in the middle and
runs again from its start, so each statement must allow that: `drop index concurrently if exists` before
`create index concurrently`, because an index whose building was cut exists, invalid.
"""

import asyncio
import datetime as dt
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg
import msgspec

from quarterdeck.store.migration_files import (
    Migration,
    MigrationError,
    Script,
    find_directory,
    read_migrations,
    split_statements,
)
from quarterdeck.store.pool import CONNECT_TIMEOUT, is_conflict, is_passing
from quarterdeck.telemetry.log import get_logger

__all__ = [
    "Applied",
    "Migration",
    "MigrationError",
    "Migrator",
    "SchemaAhead",
    "SchemaBehind",
    "SchemaDrifted",
    "Status",
]

OLDEST_SERVER = 15
"""The oldest major version of PostgreSQL that the schema and the statements are written for."""
LOCK_TIMEOUT = 5.0
"""Seconds that a file waits for the lock of a table: whoever comes after it in that queue waits as long."""
ATTEMPTS = 5
"""How often a file is tried that did not get its locks."""

_LOCK = 0x7164_6D69_6772_6174  # "qdmigrat"; advisory locks are a database's own
_PAUSE = (0.05, 0.25)  # between two tries for the lock, seconds
_BACKOFF = (0.2, 1.0)  # times the number of the attempt, seconds

# Not by `to_regclass`, which may answer from a cache that a transaction renews only when it locks a table.
_HAS_TABLE = "select exists (select from pg_tables where schemaname = 'quarterdeck' and tablename = 'migration')"
# `create schema if not exists` would ask for the right to create schemas even where ours exists.
_CREATE_TABLE = """
do $$ begin
  if not exists (select from pg_namespace where nspname = 'quarterdeck') then create schema quarterdeck; end if;
end $$;
create table quarterdeck.migration (
  version      integer primary key,
  name         text not null,
  checksum     text not null,
  applied_at   timestamptz not null default now(),
  duration_ms  integer not null
)
"""
_TRY_LOCK = "select pg_try_advisory_xact_lock($1)"
# Limits that a role or database sets for its ordinary work would cut a long migration.
_SET_LIMITS = """
select set_config(name, case name when 'lock_timeout' then $1 else '0' end, true) from pg_settings
 where name in ('lock_timeout', 'statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout')
"""
_APPLIED = "select version, name, checksum, applied_at, duration_ms from quarterdeck.migration order by version"
_INSERT = """
insert into quarterdeck.migration (version, name, checksum, applied_at, duration_ms)
values ($1, $2, $3, clock_timestamp(), extract(epoch from clock_timestamp() - now()) * 1000)
"""
_DELETE = "delete from quarterdeck.migration where version = $1"

log = get_logger(__name__)


class SchemaBehind(MigrationError):
    """Migrations of this program are not applied yet."""


class SchemaAhead(MigrationError):
    """Migrations are applied that this program does not know: a newer one has been here."""


class SchemaDrifted(MigrationError):
    """What was applied is not what this program has under the same number."""


class Applied(msgspec.Struct, frozen=True):
    """A row of `quarterdeck.migration`."""

    version: int
    name: str
    checksum: str
    applied_at: dt.datetime
    duration_ms: int

    @property
    def label(self) -> str:
        """How messages call it: `0001_initial`."""
        return f"{self.version:04d}_{self.name}"


class Status(msgspec.Struct, frozen=True):
    """How far a database is: all that is applied, and of it what is unknown here or differs; what is still to come."""

    applied: list[Applied]
    pending: list[Migration]
    ahead: list[Applied]
    drifted: list[Applied]


_Choose = Callable[[Status], Migration | None]
_Step = Callable[[asyncpg.Connection, Migration], Awaitable[None]]


class Migrator:
    """Applies migrations, takes them back, and compares them with what a database has.

    `directory` holds the files; this program's own are taken where it is None. `lock_timeout` (seconds) and `attempts`
    say how long a file waits for the locks of tables.

    All methods raise `MigrationError` for a server that is too old, and what the driver raises where the database
    cannot be reached; `store.pool.is_passing` tells that.
    """

    def __init__(
        self, dsn: str, directory: Path | None = None, *, lock_timeout: float = LOCK_TIMEOUT, attempts: int = ATTEMPTS
    ) -> None:
        """Read the files; a `MigrationError` says what is wrong with them."""
        self._dsn = dsn
        self._migrations = read_migrations(directory or find_directory())
        self._lock_timeout = lock_timeout
        self._attempts = attempts

    async def up(self) -> list[Migration]:
        """Apply what is pending and return what this call applied; what another process applies is waited for.

        Raises:
            MigrationError: a statement failed, or did not get its locks; the files before it stay applied.
            SchemaAhead, SchemaDrifted: nothing is touched.
        """
        async with self._connected() as connection:
            while not await self._prepared(connection):
                await _pause(_PAUSE)
            return await self._move(connection, _next_up, self._apply)

    async def down(self, to: int = 0) -> list[Migration]:
        """Take back what is applied beyond version `to`, the newest first, and return what this call took back.

        Raises:
            MigrationError, SchemaAhead, SchemaDrifted: as for `up`.
        """
        by_version = {migration.version: migration for migration in self._migrations}

        def next_down(status: Status) -> Migration | None:
            _refuse(status)
            beyond = [applied.version for applied in status.applied if applied.version > to]
            return by_version[beyond[-1]] if beyond else None

        async with self._connected() as connection:
            return await self._move(connection, next_down, self._revert)

    async def status(self) -> Status:
        """Compare the database with the files; nothing is written."""
        async with self._connected() as connection:
            return await self._status(connection)

    async def prepare(self, *, apply: bool) -> None:
        """Makes sure of the schema before a service uses it: applies what is missing, if it may, and verifies.

        Raises what `up` and `verify` raise.
        """
        if apply:
            for migration in await self.up():
                log.info("migration.applied", version=migration.version, name=migration.name)
        await self.verify()

    async def verify(self) -> None:
        """Return if the database has exactly the schema of this program.

        Raises:
            SchemaAhead, SchemaDrifted, SchemaBehind: it has not.
        """
        status = await self.status()
        _refuse(status)
        if status.pending:
            raise SchemaBehind(f"the database is behind: {_labels(status.pending)} not applied; run `qd migrate up`")

    async def _move(self, connection: asyncpg.Connection, choose: _Choose, step: _Step) -> list[Migration]:
        """Take `step` for the migration that `choose` names, until it names none."""
        done: list[Migration] = []
        waited = False
        while (migration := choose(await self._status(connection))) is not None:
            if await self._in_turn(connection, migration, choose, step):
                done.append(migration)
                log.info("migration.done", migration=migration.label, step=step.__name__.removeprefix("_"))
                continue
            if not waited:
                log.info("migration.waits", migration=migration.label)
                waited = True
            await _pause(_PAUSE)
        return done

    async def _in_turn(
        self, connection: asyncpg.Connection, migration: Migration, choose: _Choose, step: _Step
    ) -> bool:
        """Take `step` under the lock, in one transaction; False if another process has the lock, or was faster."""
        attempt = 1
        while True:
            try:
                async with connection.transaction(isolation="read_committed"):
                    if not await connection.fetchval(_TRY_LOCK, _LOCK):
                        return False
                    if choose(await self._status(connection)) != migration:
                        return False
                    await connection.execute(_SET_LIMITS, f"{self._lock_timeout * 1000:.0f}")
                    await step(connection, migration)
                return True
            except asyncpg.PostgresError as error:
                if not is_conflict(error):
                    raise
                if attempt == self._attempts:
                    message = f"{migration.label} did not get its locks in {attempt} attempts: {error}"
                    raise MigrationError(message) from error
                log.warning("migration.repeated", migration=migration.label, attempt=attempt, error=str(error))
            await _pause(_BACKOFF, attempt)
            attempt += 1

    async def _apply(self, connection: asyncpg.Connection, migration: Migration) -> None:
        await self._run(connection, migration.up)
        await connection.execute(_INSERT, migration.version, migration.name, migration.checksum)

    async def _revert(self, connection: asyncpg.Connection, migration: Migration) -> None:
        await connection.execute(_DELETE, migration.version)  # first: the file may drop the schema, the table included
        await self._run(connection, migration.down)

    async def _run(self, connection: asyncpg.Connection, script: Script) -> None:
        if script.transactional:
            with _explained(script.line):
                await connection.execute(script.text)
            return
        # A statement with arguments leaves its portal open, and with it a snapshot that `create index concurrently`
        # would wait for; one without, by the simple protocol, closes it.
        await connection.execute("select 1")
        async with self._connected() as another:
            await another.execute("set statement_timeout = 0")
            for statement in split_statements(script.text):
                with _explained(script.line, statement.offset):
                    await another.execute(statement.text)

    async def _prepared(self, connection: asyncpg.Connection) -> bool:
        """Create the table of migrations if it is not there; False if another process has the lock."""
        if await connection.fetchval(_HAS_TABLE):
            return True
        with _explained(lambda _position: "the table quarterdeck.migration"):
            async with connection.transaction(isolation="read_committed"):
                if not await connection.fetchval(_TRY_LOCK, _LOCK):
                    return False
                if not await connection.fetchval(_HAS_TABLE):
                    await connection.execute(_CREATE_TABLE)
        return True

    async def _status(self, connection: asyncpg.Connection) -> Status:
        rows = await connection.fetch(_APPLIED) if await connection.fetchval(_HAS_TABLE) else []
        applied = [Applied(**dict(row)) for row in rows]
        known = {migration.version: migration for migration in self._migrations}
        done = {one.version for one in applied}
        return Status(
            applied=applied,
            pending=[migration for migration in self._migrations if migration.version not in done],
            ahead=[one for one in applied if one.version not in known],
            drifted=[one for one in applied if one.version in known and one.checksum != known[one.version].checksum],
        )

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(
            self._dsn,
            timeout=CONNECT_TIMEOUT,
            statement_cache_size=0,  # behind a pooler in transaction mode, the next transaction may be another server's
            server_settings={"application_name": "quarterdeck-migrator"},
        )
        try:
            _check_server(connection.get_server_version().major)
            yield connection
            await connection.close(timeout=CONNECT_TIMEOUT)
        finally:
            connection.terminate()  # nothing, once it is closed; after an error or a cancel its state is unknown


def _next_up(status: Status) -> Migration | None:
    _refuse(status)
    return status.pending[0] if status.pending else None


def _refuse(status: Status) -> None:
    if status.ahead:
        raise SchemaAhead(
            f"the database is ahead: {_labels(status.ahead)} applied, but unknown to this program; use a newer one"
        )
    if status.drifted:
        raise SchemaDrifted(
            f"the database has drifted: {_labels(status.drifted)} applied with another content than this program has"
        )
    newest = status.applied[-1] if status.applied else None
    skipped = [migration for migration in status.pending if newest and migration.version < newest.version]
    if newest and skipped:
        raise SchemaDrifted(f"the database has drifted: {_labels(skipped)} not applied, though {newest.label} is")


def _check_server(major: int) -> None:
    if major < OLDEST_SERVER:
        raise MigrationError(f"PostgreSQL {major} is too old: {OLDEST_SERVER} or newer is needed")


def _labels(migrations: Sequence[Migration | Applied]) -> str:
    return f"{', '.join(migration.label for migration in migrations)} {'is' if len(migrations) == 1 else 'are'}"


async def _pause(between: tuple[float, float], times: int = 1) -> None:
    await asyncio.sleep(random.uniform(*between) * times)


@contextmanager
def _explained(place: Callable[[int], str], offset: int = 0) -> Iterator[None]:
    """Say in which line of a file the database found an error; errors that pass by themselves go through."""
    try:
        yield
    except asyncpg.PostgresError as error:
        if is_conflict(error) or is_passing(error):
            raise
        position = int(getattr(error, "position", None) or 1) - 1
        raise MigrationError(f"{place(offset + position)}: {error}") from error
