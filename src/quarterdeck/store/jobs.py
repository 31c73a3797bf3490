"""JobStore: jobs as callers know them: submit, look up, cancel."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Sequence

import asyncpg
import msgspec

from quarterdeck.domain.errors import Unavailable
from quarterdeck.domain.job import IdempotencyKey, Job, NewJob
from quarterdeck.domain.state import State
from quarterdeck.store.pool import ACQUIRE_TIMEOUT, ends_of, fetch
from quarterdeck.store.queries import SQL
from quarterdeck.store.rows import job_of, raw
from quarterdeck.store.shelf import Version


class Inserted(msgspec.Struct, frozen=True):
    """What the database decided about an inserted job."""

    id: uuid.UUID
    state: State
    seq: int
    created_at: dt.datetime
    run_at: dt.datetime
    expires_at: dt.datetime | None
    attempted_at: dt.datetime | None
    worker: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """What is kept under an idempotency key: whose body it was, and the job as it was answered.

    Either `submit` and what the insert decided of it (`facts`), or the whole `job`, which is an earlier one where
    `duplicate` says so.
    """

    submit: NewJob | None = None
    facts: Inserted | None = None
    job: Job | None = None
    duplicate: bool = False


class JobVersion(msgspec.Struct, frozen=True):
    """How often a job has changed: `generation` and `seq` make its ETag."""

    id: uuid.UUID
    generation: int
    seq: int
    ended: bool


class LookedUp(msgspec.Struct, frozen=True):
    """A job as it was found; `left_out` says that it has a result, which was not read with it."""

    job: Job
    left_out: bool

    @property
    def version(self) -> Version:
        """What the result of this ended job is known by."""
        job = self.job
        assert job.finalized_at is not None, "it has not ended"  # noqa: S101 - there is no result to ask for
        return Version(job.tenant, job.id, job.generation, job.seq, job.finalized_at)


class CancelAnswer(msgspec.Struct, frozen=True):
    """What a cancel did: the job's state and `seq` now, and who runs it, where it runs."""

    id: uuid.UUID
    queue: str
    state: State
    seq: int
    worker: str | None


TRIES = 5
FirstAnswer = Callable[[Inserted | Job], Answer]
_NO_KEY = (None, None, None, None, None)


class JobStore:
    """The statements behind the API. Every method may raise what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def insert_jobs(
        self, jobs: Sequence[NewJob], hand_off: Sequence[bool], worker: str | None
    ) -> dict[uuid.UUID, Inserted]:
        """Inserts a group in one commit; `hand_off` marks the jobs that `worker` would begin at once.

        A job whose id exists already is left alone and is not in the answer.
        """
        group = sorted(zip(jobs, hand_off, strict=True), key=lambda pair: pair[0].id)
        columns = zip(*(columns_of(job, hand_off=handed) for job, handed in group), strict=True)
        rows = await fetch(self._pool, "insert_jobs", *columns, worker)
        return {row["id"]: _inserted(row) for row in rows}

    async def insert_doubly_keyed(self, job: NewJob, key: IdempotencyKey, first: FirstAnswer) -> Inserted | Job | None:
        """Inserts a job that has both a unique and an idempotency key, in a transaction.

        Returns what the insert decided; or the earlier job that holds the unique key; or None where the idempotency key
        is taken. `first` makes the answer that is kept of the first two.
        """
        async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT) as connection, connection.transaction():
            place = (key.tenant, key.method, key.path, key.key)
            if await connection.fetchval(SQL["take_idempotency_key"], *place, key.body_hash, job.id) is None:
                return None
            alone = msgspec.structs.replace(job, idempotency=None)
            columns = [[value] for value in columns_of(alone, hand_off=False)]
            for _ in range(TRIES):
                if rows := await connection.fetch(SQL["insert_jobs"], *columns, None):
                    outcome: Inserted | Job = _inserted(rows[0])
                else:
                    holders = await connection.fetch(SQL["find_unique"], [job.tenant], [job.queue], [job.unique_key])
                    ids = [row["job_id"] for row in holders]
                    found = await connection.fetch(SQL["get_jobs"], ids, *ends_of(ids))
                    if not found:  # freed between two statements
                        continue
                    outcome = job_of(found[0])
                kept = msgspec.json.encode(first(outcome)).decode()
                await connection.execute(SQL["keep_answer"], *place, outcome.id, kept)
                return outcome
            raise Unavailable("the unique key changes hands too fast; try again")

    async def find_unique(self, jobs: Sequence[NewJob]) -> dict[tuple[str, str, str], uuid.UUID]:
        """Who holds the unique keys of these jobs: job id by tenant, queue and key."""
        rows = await fetch(
            self._pool,
            "find_unique",
            [job.tenant for job in jobs],
            [job.queue for job in jobs],
            [job.unique_key for job in jobs],
        )
        return {(row["tenant"], row["queue"], row["key"]): row["job_id"] for row in rows}

    async def find_answer(self, key: IdempotencyKey) -> tuple[bytes, uuid.UUID, Answer] | None:
        """The hash of the first body, the job, and the first answer under a key, while it is kept."""
        return (await self.find_answers([key])).get(key)

    async def find_answers(
        self, keys: Sequence[IdempotencyKey]
    ) -> dict[IdempotencyKey, tuple[bytes, uuid.UUID, Answer]]:
        """The same for each of these keys under which an answer is kept, by the key as it was given."""
        rows = await fetch(
            self._pool,
            "find_answers",
            [key.tenant for key in keys],
            [key.method for key in keys],
            [key.path for key in keys],
            [key.key for key in keys],
        )
        found = {
            (row["tenant"], row["method"], row["path"], row["key"]): (
                row["body_hash"],
                row["job_id"],
                answer_of(row["answer"]),
            )
            for row in rows
        }
        return {key: found[place] for key in keys if (place := (key.tenant, key.method, key.path, key.key)) in found}

    async def prune_answers(self, limit: int) -> int:
        """Forgets up to `limit` answers that are no longer kept; returns how many."""
        return len(await fetch(self._pool, "prune_answers", limit))

    async def get_jobs(self, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Job]:
        """Those of the jobs that exist, of whichever tenant."""
        rows = await fetch(self._pool, "get_jobs", ids, *ends_of(ids))
        return {row["id"]: job_of(row) for row in rows}

    async def look_up_jobs(self, ids: Sequence[uuid.UUID], largest: int) -> dict[uuid.UUID, LookedUp]:
        """The same for one id or more, but for results that take more than `largest` bytes where they are stored."""
        found = {}
        for row in await fetch(self._pool, "look_up_jobs", ids, largest, *ends_of(ids)):
            values = dict(row)
            left_out = values.pop("left_out")
            found[values["id"]] = LookedUp(job_of(values), left_out)
        return found

    async def get_results(self, ids: Sequence[uuid.UUID]) -> dict[Version, bytes]:
        """The results of those of the jobs, one or more, that have ended: JSON text."""
        found = {}
        for row in await fetch(self._pool, "get_results", ids, *ends_of(ids)):
            values = dict(row)
            result = values.pop("result")
            found[Version(**values)] = b"null" if result is None else result.encode()
        return found

    async def job_versions(self, ids: Sequence[uuid.UUID], watched: Sequence[uuid.UUID]) -> list[JobVersion]:
        """Versions of those of the jobs that have ended, and of those `watched` that have not."""
        rows = await fetch(self._pool, "job_versions", ids, watched, *ends_of(ids))
        return [JobVersion(**dict(row)) for row in rows]

    async def cancel_job(self, job_id: uuid.UUID, tenant: str) -> CancelAnswer | None:
        """Ends a waiting job or marks a running one; None where nothing was left to do (look the job up to see why)."""
        rows = await fetch(self._pool, "cancel_job", job_id, tenant)
        if not rows:
            return None
        row = rows[0]
        return CancelAnswer(row["id"], row["queue"], State(row["state"]), row["seq"], row["worker"])


_NULL = msgspec.Raw(b"null")


class _KeptJob(Job, frozen=True, kw_only=True):
    """A job as it is kept in an answer: msgspec takes nothing but null for `Raw | None`."""

    progress: msgspec.Raw = _NULL
    result: msgspec.Raw = _NULL


class _KeptAnswer(Answer, frozen=True):
    job: _KeptJob | None = None


_kept_answer = msgspec.json.Decoder(_KeptAnswer)


def answer_of(text: str) -> Answer:
    """An answer as it was kept."""
    kept = _kept_answer.decode(text)
    if kept.job is None:
        return kept
    fields = msgspec.structs.asdict(kept.job)
    for name in ("progress", "result"):
        fields[name] = raw(bytes(fields[name]).decode())
    return msgspec.structs.replace(kept, job=Job(**fields))


def _inserted(row: asyncpg.Record) -> Inserted:
    return Inserted(**{**dict(row), "state": State(row["state"])})


def columns_of(job: NewJob, *, hand_off: bool) -> tuple[object, ...]:
    """A job as insert_jobs.sql takes it."""
    key = job.idempotency
    return (
        job.id,
        job.queue,
        job.tenant,
        job.kind,
        job.args,
        job.priority,
        job.run_at,
        job.delay,
        job.expires_at,
        job.ttl,
        job.timeout,
        job.max_attempts,
        job.retry,
        # As JSON text: asyncpg takes a list inside an array for another dimension.
        msgspec.json.encode(job.tags).decode() if job.tags else None,
        job.metadata or None,
        job.traceparent,
        job.parent_id,
        hand_off,
        job.unique_key,
        job.unique_period,
        *((key.method, key.path, key.key, key.body_hash, _resolved(job)) if key else _NO_KEY),
    )


def _resolved(job: NewJob) -> str:
    return msgspec.json.encode(msgspec.structs.replace(job, idempotency=None)).decode()
