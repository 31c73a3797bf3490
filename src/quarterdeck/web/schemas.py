"""What answers look like."""

from __future__ import annotations

import datetime as dt
import uuid
from operator import attrgetter
from typing import Any

import msgspec

from quarterdeck.clock import rfc3339
from quarterdeck.domain.job import Job
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
