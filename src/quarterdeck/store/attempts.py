"""AttemptStore: what a worker does with jobs: claim, finish, put back. Every write carries its fence."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import asyncpg
import msgspec

from quarterdeck.domain.job import Job
from quarterdeck.domain.outcome import Transition
from quarterdeck.domain.state import State
from quarterdeck.store.pool import ends_of, fetch
from quarterdeck.store.rows import job_of


class ClaimedJob(msgspec.Struct, frozen=True):
    """A job this worker may run, under `fence`; `job` makes the whole of it, for handlers that look."""

    id: uuid.UUID
    fence: int
    kind: str
    queue: str
    args: dict[str, Any]
    attempt: int
    max_attempts: int
    timeout: float | None
    retry: dict[str, Any] | None
    tenant: str
    run_at: dt.datetime
    job: Callable[[], Job]


class Written(msgspec.Struct, frozen=True):
    """A job as a write left it."""

    id: uuid.UUID
    queue: str
    state: State
    seq: int
    run_at: dt.datetime | None = None


class Fate(msgspec.Struct, frozen=True):
    """What became of a job whose write changed nothing."""

    id: uuid.UUID
    state: State
    fence: int
    cancel_requested: bool


class Ended(msgspec.Struct, frozen=True):
    """An attempt's end, to be written: the fence it ran under and what it makes of the job.

    `queue`, `kind` and `ran`, the seconds that its handler ran, are for the metrics; empty where nobody knows them.
    """

    id: uuid.UUID
    fence: int
    transition: Transition
    unstarted: bool = False
    queue: str = ""
    kind: str = ""
    ran: float | None = None


class AttemptStore:
    """The statements behind the engine's hot path. Every method may raise what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def claim_jobs(self, queue: str, limit: int, worker: str, kinds: Sequence[str]) -> list[ClaimedJob]:
        """Takes up to `limit` due jobs of `queue` whose kind is among `kinds`, in the order they should run."""
        rows = await fetch(self._pool, "claim_jobs", queue, limit, worker, kinds)
        # The update returns its rows in no order.
        rows.sort(key=lambda row: (row["priority"], row["run_at"], row["id"]))
        return [claimed(row) for row in rows]

    async def pick_suspect(self, worker: str) -> uuid.UUID | None:
        """The next job that `worker` is to run alone, if it is its turn."""
        rows = await fetch(self._pool, "pick_suspect", worker)
        return rows[0]["id"] if rows else None

    async def claim_suspect(self, job_id: uuid.UUID, worker: str) -> ClaimedJob | None:
        """Takes a job that is to run alone; `None` where it does not wait any more."""
        rows = await fetch(self._pool, "claim_suspect", job_id, worker)
        return claimed(rows[0]) if rows else None

    async def finish_jobs(self, group: Sequence[Ended]) -> list[Written]:
        """Moves ended jobs to the history. What is not in the answer was not ours any more."""
        group = sorted(group, key=lambda ended: ended.id)
        rows = await fetch(
            self._pool,
            "finish_jobs",
            [ended.id for ended in group],
            [ended.fence for ended in group],
            [ended.transition.state.value for ended in group],
            [ended.transition.reason for ended in group],
            [ended.transition.detail for ended in group],
            [ended.transition.result for ended in group],
            [ended.transition.error for ended in group],
        )
        return [written(row) for row in rows]

    async def drop_repeated_job(self, job_id: uuid.UUID, fence: int) -> bool:
        """Takes away what a repeated insert has brought back after its end; False where that is not so."""
        return bool(await fetch(self._pool, "drop_repeated_job", job_id, fence))

    async def reschedule_jobs(self, group: Sequence[Ended]) -> list[Written]:
        """Puts jobs back to wait.

        What is not in the answer was not ours any more, or has to end because somebody asked for its cancel.
        """
        group = sorted(group, key=lambda ended: ended.id)
        rows = await fetch(
            self._pool,
            "reschedule_jobs",
            [ended.id for ended in group],
            [ended.fence for ended in group],
            [ended.transition.state.value for ended in group],
            [ended.transition.reason for ended in group],
            [ended.transition.event for ended in group],
            [ended.transition.delay for ended in group],
            [ended.transition.refund for ended in group],
            [ended.unstarted for ended in group],
            [ended.transition.error for ended in group],
        )
        return [written(row) for row in rows]

    async def fates_of_jobs(self, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Fate]:
        """What became of jobs whose write changed nothing; absent ones are gone."""
        rows = await fetch(self._pool, "fates_of_jobs", ids, *ends_of(ids))
        return {row["id"]: Fate(row["id"], State(row["state"]), row["fence"], row["cancel_requested"]) for row in rows}

    async def held_jobs(self, worker: str) -> dict[uuid.UUID, int]:
        """Fence by id of every job the database says `worker` runs."""
        return {row["id"]: row["fence"] for row in await fetch(self._pool, "held_jobs", worker)}

    async def release_worker(self, worker: str) -> list[Written]:
        """Gives back everything `worker` still holds, attempts refunded."""
        return [written(row) for row in await fetch(self._pool, "release_worker", worker)]

    async def forgive_crashes(self, held: Mapping[uuid.UUID, int]) -> list[Written]:
        """Takes back the crashes that rescues counted for jobs held under these fences, where they have not ended."""
        rows = await fetch(self._pool, "forgive_crashes", list(held), list(held.values()))
        return [written(row) for row in rows]


def claimed(row: asyncpg.Record) -> ClaimedJob:
    """A row of `job` that this worker runs."""
    return ClaimedJob(
        row["id"],
        row["fence"],
        row["kind"],
        row["queue"],
        row["args"],
        row["attempt"],
        row["max_attempts"],
        row["timeout"],
        row["retry"],
        row["tenant"],
        row["run_at"],
        partial(job_of, row),
    )


def written(row: asyncpg.Record) -> Written:
    """A row returned by a write."""
    return Written(row["id"], row["queue"], State(row["state"]), row["seq"], row.get("run_at"))
