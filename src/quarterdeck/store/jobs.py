"""JobStore: jobs as callers know them: submit, look up, cancel."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence

import asyncpg
import msgspec

from quarterdeck.domain.job import Job, NewJob
from quarterdeck.domain.state import State
from quarterdeck.store.pool import fetch
from quarterdeck.store.rows import job_of


class Inserted(msgspec.Struct, frozen=True):
    """What the database decided about an inserted job."""

    id: uuid.UUID
    state: State
    seq: int
    created_at: dt.datetime
    run_at: dt.datetime
    expires_at: dt.datetime | None
    attempted_at: dt.datetime | None


class CancelAnswer(msgspec.Struct, frozen=True):
    """What a cancel did: the job's state and `seq` now, and who runs it, where it runs."""

    id: uuid.UUID
    queue: str
    state: State
    seq: int
    worker: str | None


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
        columns = zip(*(_columns(job, hand_off=handed) for job, handed in group), strict=True)
        rows = await fetch(self._pool, "insert_jobs", *columns, worker)
        return {
            row["id"]: Inserted(
                row["id"],
                State(row["state"]),
                row["seq"],
                row["created_at"],
                row["run_at"],
                row["expires_at"],
                row["attempted_at"],
            )
            for row in rows
        }

    async def get_jobs(self, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Job]:
        """Those of the jobs that exist, of whichever tenant."""
        rows = await fetch(self._pool, "get_jobs", ids)
        return {row["id"]: job_of(row) for row in rows}

    async def ended_jobs(self, ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
        """Those of the jobs that have ended."""
        return [row["id"] for row in await fetch(self._pool, "ended_jobs", ids)]

    async def cancel_job(self, job_id: uuid.UUID, tenant: str) -> CancelAnswer | None:
        """Ends a waiting job or marks a running one; None where nothing was left to do (look the job up to see why)."""
        rows = await fetch(self._pool, "cancel_job", job_id, tenant)
        if not rows:
            return None
        row = rows[0]
        return CancelAnswer(row["id"], row["queue"], State(row["state"]), row["seq"], row["worker"])


def _columns(job: NewJob, *, hand_off: bool) -> tuple[object, ...]:
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
    )
