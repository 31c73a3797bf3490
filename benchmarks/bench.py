"""Bench: a database of the benchmarks' own, made fresh between the cases."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg

from quarterdeck.domain.job import IdSource
from quarterdeck.store import pool
from quarterdeck.store.embedded import EmbeddedPostgres
from quarterdeck.store.migrator import Migrator

_VAR_TMP = Path("/var/tmp")  # noqa: S108 - /tmp is often memory, where a commit costs nothing
DURABLE = _VAR_TMP if _VAR_TMP.is_dir() else None
"""Where the database is made if nobody says otherwise; None is the system's temporary directory."""
STATEMENT_TIMEOUT = 60.0
EMPTY_POLL = 0.002

# Emptying a month of empty partitions takes longer than most cases.
_FILLED = """
    select c.oid::regclass::text as name
      from pg_class c
     where c.relnamespace = 'quarterdeck'::regnamespace and c.relkind = 'r' and pg_relation_size(c.oid) > 0
       and (c.relname in ('job', 'worker') or c.relname like 'job\\_%')
"""


class Bench:
    """A migrated database and two connections set up like the service's own.

    Two, because a claim and the finish of the group before it are in flight at the same time.
    """

    def __init__(self, directory: Path, dsn: str, one: asyncpg.Connection, two: asyncpg.Connection) -> None:
        self.directory = directory
        self.dsn = dsn
        self.one = one
        self.two = two
        self.ids = IdSource(lambda: int(time.time() * 1000))

    async def fresh(self) -> None:
        """Empties the tables, and has the checkpoint now that would fall into the middle of a case."""
        filled = [row["name"] for row in await self.one.fetch(_FILLED)]
        if filled:
            await self.one.execute(f"truncate {', '.join(filled)}")
            await self.one.execute("checkpoint")

    async def settled(self) -> None:
        """Waits until no unfinished job is left."""
        while await self.one.fetchval("select exists (select from quarterdeck.job)"):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(EMPTY_POLL)

    async def completed(self) -> int:
        """How many jobs have ended well."""
        count: int = await self.one.fetchval("select count(*) from quarterdeck.job_history where state = 'completed'")
        return count


@contextlib.contextmanager
def _directory(parent: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="qd-bench-", dir=parent, ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o711)  # started by root, the server runs as another account, and has to pass
        yield directory


@contextlib.asynccontextmanager
async def opened(parent: Path | None) -> AsyncIterator[Bench]:
    """A bench on an embedded PostgreSQL with the service's own settings, durable ones, in a directory that is removed.

    `parent` is where that directory is made: `/var/tmp`, where there is one and nothing else is said. Raises
    EmbeddedError where the server cannot be started.
    """
    with _directory(parent or DURABLE) as directory:
        server = EmbeddedPostgres(directory)
        await server.start()
        try:
            dsn = server.dsn()
            await Migrator(dsn).up()
            one = await pool.open_connection(dsn, name="bench", command_timeout=STATEMENT_TIMEOUT)
            two = await pool.open_connection(dsn, name="bench", command_timeout=STATEMENT_TIMEOUT)
            try:
                yield Bench(directory, dsn, one, two)
            finally:
                one.terminate()
                two.terminate()
        finally:
            await server.stop()
