"""The database of a soak: a server of its own, which it restarts, and what is in it in the end."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from quarterdeck.store.embedded import EmbeddedPostgres
from tests.soak.history import Entry, Row
from tests.support.commands import postmaster_of, process_exists

_COLUMNS = """id, queue, kind, state, state_reason, attempt, max_attempts, generation, crashes, fence, seq, unique_key,
  metadata ->> 'key' as key, timeline"""

ROWS = f"""
    select 'job' as place, {_COLUMNS}, null as result from quarterdeck.job
    union all
    select 'job_history', {_COLUMNS}, result::text from quarterdeck.job_history
"""

EVENTS = """
    select job_id, array_agg(seq order by seq) as seqs,
           array_agg(floor(extract(epoch from at) * 1000)::bigint order by seq) as at_ms
      from quarterdeck.job_event group by job_id
"""

UNFINISHED = "select count(*) from quarterdeck.job"

WAITING = """
    select id, state, state_reason, kind, worker, timeline from quarterdeck.job order by id limit 5
"""

LEFTOVERS = """
    select 'a job runs without a live worker: ' || j.id || ' of ' || j.worker as leftover
      from quarterdeck.job j
     where j.state = 'running'
       and not exists (select from quarterdeck.worker w where w.id = j.worker and w.lease_until > now())
    union all
    select 'the unique key ' || u.key || ' is held by ' || u.job_id || ', which has ended'
      from quarterdeck.unique_key u
     where not u.ended and not exists (select from quarterdeck.job j where j.id = u.job_id)
    union all
    select 'advisory lock of pid ' || pid || ' (' || mode || ')'
      from pg_locks
     where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
    union all
    select 'pid ' || pid || ' is ' || state || ' since ' || state_change || ' after: ' || left(query, 200)
      from pg_stat_activity
     where datname = current_database() and state like 'idle in transaction%' and state_change < now() - interval '2 s'
"""

LIVE_WORKERS = "select id, pid from quarterdeck.worker where lease_until > now()"

END_BACKENDS = """
    select pg_terminate_backend(pid) from (
      select pid from pg_stat_activity where application_name like 'quarterdeck-%' order by random() limit $1) b
"""

ANSWERS_WITHIN = 60.0
MANY = 300
"""More connections than the server takes."""


class Database:
    """An embedded server with its usual settings: what it has answered is on the disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server = EmbeddedPostgres(directory)

    async def start(self) -> None:
        """Makes the cluster and starts it."""
        await self._server.start()

    async def stop(self) -> None:
        """Stops it for good."""
        await self._server.stop()

    @property
    def dsn(self) -> str:
        """Its URL, by its socket; the same after a restart."""
        return self._server.dsn()

    async def restart(self, *, away: float, immediate: bool) -> None:
        """Restarts it: ends every connection and writes everything down, or crashes and recovers (`immediate`).

        It is away for so many seconds in between. Returns when it takes connections again.
        """
        if immediate:
            postmaster = postmaster_of(self._directory)
            os.kill(postmaster, signal.SIGQUIT)
            while process_exists(postmaster):  # noqa: ASYNC110 (nobody tells)
                await asyncio.sleep(0.01)
        await self._server.stop()
        await asyncio.sleep(away)
        await self._server.start()

    async def end_backends(self, count: int) -> None:
        """Ends so many of the service's connections, at random."""
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await self.fetch(END_BACKENDS, count)

    async def crowd(self, seconds: float) -> None:
        """Takes all connections that are left, for so long."""
        taken: list[asyncpg.Connection] = []
        try:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                while len(taken) < MANY:
                    taken.append(await asyncpg.connect(self.dsn, timeout=10))
            await asyncio.sleep(seconds)
        finally:
            for connection in taken:
                connection.terminate()

    async def unfinished(self) -> int:
        """How many jobs have not ended."""
        (row,) = await self.fetch(UNFINISHED)
        return int(row[0])

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """Runs a statement on a connection of its own, as nothing else here may wait for it."""
        connection = await asyncpg.connect(self.dsn, timeout=10, command_timeout=ANSWERS_WITHIN)
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()

    async def rows(self) -> list[Row]:
        """All jobs, ended or not."""
        more = {record["job_id"]: (list(record["seqs"]), list(record["at_ms"])) for record in await self.fetch(EVENTS)}
        return [_row(record, *more.get(record["id"], ([], []))) for record in await self.fetch(ROWS)]

    async def leftovers(self) -> list[str]:
        """What should not be there while everything is at rest."""
        return [record["leftover"] for record in await self.fetch(LEFTOVERS)]

    async def live_workers(self) -> dict[str, int]:
        """The processes whose lease is not over, by their worker's id."""
        return {record["id"]: record["pid"] for record in await self.fetch(LIVE_WORKERS)}


def timeline(text: str) -> list[Entry]:
    """A job's timeline as entries."""
    return [msgspec.json.decode(line, type=Entry) for line in text.splitlines()]


def _row(record: asyncpg.Record, more: list[int], more_at_ms: list[int]) -> Row:
    result = record["result"]
    return Row(
        id=uuid.UUID(str(record["id"])),
        place=record["place"],
        queue=record["queue"],
        kind=record["kind"],
        state=record["state"],
        reason=record["state_reason"],
        attempt=record["attempt"],
        max_attempts=record["max_attempts"],
        generation=record["generation"],
        crashes=record["crashes"],
        fence=record["fence"],
        seq=record["seq"],
        key=record["key"],
        unique_key=record["unique_key"],
        result=None if result is None else msgspec.json.decode(result),
        timeline=timeline(record["timeline"]),
        more_seqs=more,
        more_at_ms=more_at_ms,
    )
