"""Jobs, workers and stores for tests that need them and do not care about the rest."""

import contextlib
import datetime as dt
import itertools
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import asyncpg
import msgspec

from quarterdeck.domain.job import IdSource, NewJob
from quarterdeck.domain.outcome import Transition
from quarterdeck.store import pool
from quarterdeck.store.attempts import AttemptStore, ClaimedJob, Ended
from quarterdeck.store.jobs import Inserted, JobStore
from quarterdeck.store.kinds import KindStore
from quarterdeck.store.upkeep import UpkeepStore
from quarterdeck.store.workers import WorkerIdentity, WorkerStore
from tests.support.waiting import eventually

KIND = "echo"
QUEUE = "default"
EVERY_KIND = [KIND, "other"]
LEASE = 60.0

_ids = IdSource(lambda: time.time_ns() // 1_000_000)
_numbers = itertools.count(1)


def new_id(at: dt.datetime | None = None) -> uuid.UUID:
    """A fresh id: of this moment, growing from call to call, or of another moment."""
    if at is None:
        return _ids.next()
    moment = int(at.timestamp() * 1000)
    return IdSource(lambda: moment).next()


def new_job(**options: Any) -> NewJob:
    """A job to be inserted, due at once where `options` do not say otherwise."""
    return NewJob(**{"id": new_id(), "kind": KIND, "args": {}, "queue": QUEUE, **options})


def new_worker(**options: Any) -> WorkerIdentity:
    """A worker that nobody has registered yet."""
    number = next(_numbers)
    facts = {
        "id": f"worker-{number}",
        "host": "host",
        "pid": number,
        "role": "all",
        "queues": None,
        "kinds": EVERY_KIND,
        "slots": 10,
        "version": "0",
    }
    return WorkerIdentity(**{**facts, **options})


def error_record(**fields: Any) -> str:
    """The JSON text kept of a failed attempt."""
    return json.dumps({"attempt": 1, "at": "2026-01-31T12:00:00.000Z", "type": "ValueError", "message": "no", **fields})


def completed(job: ClaimedJob, result: str = "null") -> Ended:
    """The end of an attempt that returned `result`, JSON text."""
    return Ended(job.id, job.fence, Transition.complete(result))


def ended(job: ClaimedJob, transition: Transition, *, fence: int | None = None, unstarted: bool = False) -> Ended:
    """The end of an attempt with `transition`, under its own fence or another one."""
    return Ended(job.id, job.fence if fence is None else fence, transition, unstarted)


class Event(msgspec.Struct, frozen=True, array_like=True):
    """One line of a job's timeline."""

    seq: int
    event: str
    ms: int
    fields: dict[str, Any] = {}


def timeline(row: asyncpg.Record) -> list[Event]:
    """The events of a job. Raises `AssertionError` where their numbers have a gap or do not end at the row's `seq`."""
    lines = row["timeline"].split("\n")
    assert lines.pop() == "", "the last line has no end"
    events = [msgspec.json.decode(line, type=Event) for line in lines]
    assert [event.seq for event in events] == list(range(1, row["seq"] + 1)), row["timeline"]
    assert [event.ms for event in events] == sorted(event.ms for event in events)
    return events


def history(row: asyncpg.Record) -> list[str]:
    """The names of a job's events, in order; checks them as `timeline` does."""
    return [event.event for event in timeline(row)]


class _OneConnection:
    """Stands in for a pool where several statements must share a connection: in an open transaction."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    @contextlib.asynccontextmanager
    async def acquire(self, **_options: float) -> AsyncIterator[asyncpg.Connection]:
        yield self._connection


class Stores:
    """All stores on one database, and short ways to bring a job into a state."""

    def __init__(self, source: Any, connect: Callable[[], Any]) -> None:
        self.source = source
        self.jobs = JobStore(source)
        self.attempts = AttemptStore(source)
        self.upkeep = UpkeepStore(source)
        self.kinds = KindStore(source)
        self._connect = connect

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator["Stores"]:
        """The same stores inside one open transaction, which commits at the end: what they write stays locked."""
        async with self.connection() as connection, self.transaction_of(connection) as stores:
            yield stores

    @contextlib.asynccontextmanager
    async def transaction_of(self, connection: asyncpg.Connection) -> AsyncIterator["Stores"]:
        """The same on a connection that is there already."""
        async with connection.transaction():
            yield Stores(_OneConnection(connection), self._connect)

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of its own, with the session settings of the service."""
        connection = await self._connect()
        try:
            yield connection
        finally:
            await connection.close(timeout=5)

    @contextlib.asynccontextmanager
    async def workers(self) -> AsyncIterator[WorkerStore]:
        """The store of the heartbeat, which has a connection of its own."""
        async with self.connection() as connection:
            yield WorkerStore(connection)

    async def execute(self, statement: str, *arguments: Any) -> str:
        """Run a statement of the test's own."""
        async with self.source.acquire(timeout=5) as connection:
            status: str = await connection.execute(statement, *arguments)
            return status

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """The rows of a statement of the test's own."""
        async with self.source.acquire(timeout=5) as connection:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
            return rows

    async def until_somebody_waits(self) -> None:
        """Wait until a statement in this database waits for a lock that another one holds."""
        query = """
            select exists (select from pg_stat_activity
              where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0) as waits
        """

        async def somebody_waits() -> bool:
            waits: bool = (await self.fetch(query))[0]["waits"]
            return waits

        await eventually(somebody_waits)

    async def row(self, job_id: uuid.UUID) -> asyncpg.Record:
        """The job's only row: in `job`, or in `job_history` once it has ended."""
        waiting = await self.fetch("select * from quarterdeck.job where id = $1", job_id)
        over = await self.fetch("select * from quarterdeck.job_history where id = $1", job_id)
        (row,) = waiting + over
        return row

    async def register(self, lease: float = LEASE, **options: Any) -> str:
        """Register a worker and return its id."""
        identity = new_worker(**options)
        async with self.workers() as workers:
            await workers.register_worker(identity, lease)
        return identity.id

    async def insert(self, *jobs: NewJob) -> list[Inserted]:
        """Insert jobs without a hand-off; the facts are in the order of the jobs."""
        facts = await self.jobs.insert_jobs(jobs, [False] * len(jobs), None)
        return [facts[job.id] for job in jobs]

    async def claim(
        self, worker: str, limit: int = 100, *, queue: str = QUEUE, kinds: Sequence[str] = EVERY_KIND
    ) -> list[ClaimedJob]:
        """Claim jobs of a queue."""
        return await self.attempts.claim_jobs(queue, limit, worker, kinds)

    async def running(self, worker: str = "worker", **options: Any) -> ClaimedJob:
        """Insert a job and claim it; nothing else may be due in its queue."""
        job = new_job(**options)
        await self.insert(job)
        (claimed,) = await self.claim(worker, queue=job.queue, kinds=[job.kind])
        assert claimed.id == job.id
        return claimed

    async def finish(self, *jobs: ClaimedJob) -> None:
        """End jobs as completed."""
        written = await self.attempts.finish_jobs([completed(job) for job in jobs])
        assert len(written) == len(jobs)


@contextlib.asynccontextmanager
async def open_stores(dsn: str) -> AsyncIterator[Stores]:
    """Yield the stores of the database `dsn`, on a small pool of the service's own kind."""

    async def connect() -> asyncpg.Connection:
        return await pool.open_connection(dsn, name=pool.API, command_timeout=20)

    connections = await pool.open_pool(dsn, name="test", size=4, command_timeout=20)
    try:
        yield Stores(connections, connect)
    finally:
        await pool.close_pool(connections)
