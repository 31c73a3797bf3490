"""JobEditStore: changes to jobs that callers ask for: update, retry, delete."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Literal, cast

import asyncpg
import msgspec

from quarterdeck.domain.edit import Edit
from quarterdeck.domain.job import Job
from quarterdeck.store.pool import fetch
from quarterdeck.store.rows import job_of

Refusal = Literal["running", "version", "started", "unique"]
"""Why an edit was refused: it runs; it is in another version; its queue is fixed since it started; its key is taken."""


class Edited(msgspec.Struct, frozen=True):
    """What an update did: the job as it is now, or why nothing was changed, or neither: it was as asked for."""

    job: Job | None = None
    refusal: Refusal | None = None


class Retried(msgspec.Struct, frozen=True):
    """What a retry did: the job that runs again, or none where its unique key is taken."""

    job: Job | None


class JobEditStore:
    """The statements behind edits. Every method may raise what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def update_job(
        self, job_id: uuid.UUID, tenant: str, edit: Edit, versions: Sequence[str] | None
    ) -> Edited | None:
        """Changes a waiting job, if it is in one of `versions` ("generation-seq"; None: in any).

        None where no unfinished job of that id is there.
        """
        rows = await fetch(
            self._pool,
            "update_job",
            job_id,
            tenant,
            _given(edit.args),
            _given(edit.priority),
            _given(edit.run_at),
            None if edit.tags is msgspec.UNSET else msgspec.json.encode(edit.tags).decode(),
            _given(edit.metadata),
            versions,
            _given(edit.queue),
        )
        if not rows:
            return None
        row = rows[0]
        return Edited(_job(row, "refusal"), row["refusal"])

    async def retry_job(self, job_id: uuid.UUID, tenant: str) -> Retried | None:
        """Runs an ended job again, or a scheduled or retryable one now; None where there is no such one."""
        rows = await fetch(self._pool, "retry_job", job_id, tenant)
        return Retried(_job(rows[0], "taken")) if rows else None

    async def delete_job(self, job_id: uuid.UUID, tenant: str) -> bool:
        """Forgets an ended job and its events; false where there is no such one."""
        return bool(await fetch(self._pool, "delete_job", job_id, tenant))


def _given(value: object) -> object:
    return None if value is msgspec.UNSET else value


def _job(row: asyncpg.Record, other: str) -> Job | None:
    values = dict(row)
    del values[other]
    return None if values["id"] is None else job_of(cast("asyncpg.Record", values))
