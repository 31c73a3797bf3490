"""A job as the outside sees it, a job to be inserted, and ids."""

from __future__ import annotations

import datetime as dt
import secrets
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from quarterdeck.domain.state import TERMINAL, Reason, State

_COUNTER_MAX = 0xFFF

DEFAULT_QUEUE = "default"
DEFAULT_TENANT = "default"
DEFAULT_PRIORITY = 5
DEFAULT_MAX_ATTEMPTS = 5
DEFAULT_TIMEOUT = 900.0
"""Seconds an attempt may run where neither the submit nor the kind says otherwise."""


class JobError(msgspec.Struct, frozen=True):
    """One failed attempt, as kept in `errors`."""

    attempt: int
    at: str
    type: str
    message: str
    traceback: str | None = None


class Progress(msgspec.Struct, frozen=True):
    """How far a running job is: `fraction` in 0..1, and words."""

    fraction: float
    message: str | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as in section 3 of the contract; times are aware UTC datetimes, `timeout` is seconds.

    `result` and `errors` are kept as raw JSON and decoded by whoever looks at them.
    """

    id: uuid.UUID
    kind: str
    queue: str
    state: State
    state_reason: Reason | None = None
    state_detail: str | None = None
    args: dict[str, Any]
    priority: int
    attempt: int
    max_attempts: int
    generation: int
    crashes: int
    timeout: float | None
    created_at: dt.datetime
    run_at: dt.datetime
    expires_at: dt.datetime | None = None
    attempted_at: dt.datetime | None = None
    finalized_at: dt.datetime | None = None
    tags: list[str]
    metadata: dict[str, Any]
    unique_key: str | None = None
    concurrency_key: str | None = None
    workflow_id: uuid.UUID | None = None
    cached_from: uuid.UUID | None = None
    progress: msgspec.Raw | None = None
    result: msgspec.Raw | None = None
    errors: list[msgspec.Raw]
    worker: str | None = None
    seq: int
    tenant: str = DEFAULT_TENANT

    @property
    def terminal(self) -> bool:
        """Whether the job has ended."""
        return self.state in TERMINAL


class IdempotencyKey(msgspec.Struct, frozen=True):
    """A caller's key for one request: within tenant, method and path, the same key finds the first answer again.

    `body_hash` tells whether the body is the same, too.
    """

    tenant: str
    method: str
    path: str
    key: str
    body_hash: bytes


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job to be inserted: every option resolved, every rule checked. Durations are seconds.

    Of `run_at` and `delay`, and of `expires_at` and `ttl`, at most one is given.
    """

    id: uuid.UUID
    kind: str
    args: dict[str, Any]
    queue: str = DEFAULT_QUEUE
    tenant: str = DEFAULT_TENANT
    priority: int = DEFAULT_PRIORITY
    run_at: dt.datetime | None = None
    delay: float | None = None
    expires_at: dt.datetime | None = None
    ttl: float | None = None
    timeout: float | None = DEFAULT_TIMEOUT
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    retry: dict[str, Any] | None = None
    tags: list[str] = []
    metadata: dict[str, Any] = {}
    traceparent: str | None = None
    parent_id: uuid.UUID | None = None
    unique_key: str | None = None
    unique_period: float | None = None
    idempotency: IdempotencyKey | None = None


def submitted_at(job_id: uuid.UUID) -> int:
    """When an id was made, in milliseconds since 1970: a UUIDv7 begins with that (RFC 9562, section 5.7)."""
    return job_id.int >> 80


class IdSource:
    """Makes UUIDv7 ids (RFC 9562, section 5.7) that grow strictly within this process.

    The 12 bits after the time are a counter (method 1 of section 6.2): a fresh millisecond starts it at random in its
    lower half, and when it is full the time is borrowed from the next millisecond. A clock that steps back does not
    take ids back.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._last_ms = 0
        self._counter = 0

    def next(self) -> uuid.UUID:
        """A new id, greater than every earlier one of this source."""
        now = self._now_ms()
        if now > self._last_ms:
            self._last_ms, self._counter = now, secrets.randbits(11)
        else:
            self._counter += 1
            if self._counter > _COUNTER_MAX:
                self._last_ms, self._counter = self._last_ms + 1, 0
        head = (self._last_ms << 80) | (0x7 << 76) | (self._counter << 64)
        return uuid.UUID(int=head | (0b10 << 62) | secrets.randbits(62))
