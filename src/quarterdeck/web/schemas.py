"""What answers look like."""

from __future__ import annotations

import datetime as dt
import uuid
from operator import attrgetter
from typing import Any

import msgspec

from quarterdeck.clock import rfc3339
from quarterdeck.domain.job import Job, NewJob
from quarterdeck.domain.state import Reason, State


class JobBody(msgspec.Struct, frozen=True, kw_only=True):
    """A job as in section 3 of the contract, in its order; times are RFC 3339, `timeout` is seconds."""

    id: uuid.UUID
    kind: str
    queue: str
    state: State
    state_reason: Reason | None
    state_detail: str | None
    args: dict[str, Any]
    priority: int
    attempt: int
    max_attempts: int
    generation: int
    crashes: int
    timeout: float | None
    created_at: str
    run_at: str
    expires_at: str | None
    attempted_at: str | None
    finalized_at: str | None
    tags: list[str]
    metadata: dict[str, Any]
    unique_key: str | None
    concurrency_key: str | None
    workflow_id: uuid.UUID | None
    cached_from: uuid.UUID | None
    progress: msgspec.Raw | None
    result: msgspec.Raw | None
    errors: list[msgspec.Raw]
    worker: str | None
    seq: int


_TIMES = ("created_at", "run_at", "expires_at", "attempted_at", "finalized_at")
_AS_IT_IS = tuple(field for field in JobBody.__struct_fields__ if field not in _TIMES)
_taken_as_it_is = attrgetter(*_AS_IT_IS)


def job_body(job: Job) -> JobBody:
    """The job as callers see it."""
    values = dict(zip(_AS_IT_IS, _taken_as_it_is(job), strict=True))
    for field in _TIMES:
        moment: dt.datetime | None = getattr(job, field)
        values[field] = moment and rfc3339(moment)
    return JobBody(**values)


def planned(new: NewJob, now: dt.datetime) -> Job:
    """The job that an insert at `now` would make; its id is of no job."""
    run_at = new.run_at or now + dt.timedelta(seconds=new.delay or 0)
    expires_at = new.expires_at
    if expires_at is None and new.ttl is not None:
        expires_at = run_at + dt.timedelta(seconds=new.ttl)
    return Job(
        id=new.id,
        kind=new.kind,
        queue=new.queue,
        state=State.SCHEDULED if run_at > now else State.AVAILABLE,
        args=new.args,
        priority=new.priority,
        attempt=0,
        max_attempts=new.max_attempts,
        generation=1,
        crashes=0,
        timeout=new.timeout,
        created_at=now,
        run_at=run_at,
        expires_at=expires_at,
        tags=new.tags,
        metadata=new.metadata,
        unique_key=new.unique_key,
        errors=[],
        seq=1,
        tenant=new.tenant,
    )
