"""What a client gets: jobs, their events, messages, and what their handlers wrote."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any, ClassVar

import msgspec

ENDED = frozenset({"completed", "cancelled", "discarded"})
"""The states in which a job has ended."""


class Progress(msgspec.Struct, frozen=True):
    """How far a job is: 0 to 1, and in words."""

    fraction: float
    message: str | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the service shows it."""

    id: uuid.UUID
    kind: str
    queue: str
    state: str
    state_reason: str | None
    state_detail: str | None
    args: dict[str, Any]
    priority: int
    attempt: int
    max_attempts: int
    generation: int
    crashes: int
    timeout: float | None
    created_at: dt.datetime
    run_at: dt.datetime
    expires_at: dt.datetime | None
    attempted_at: dt.datetime | None
    finalized_at: dt.datetime | None
    tags: list[str]
    metadata: dict[str, Any]
    unique_key: str | None
    concurrency_key: str | None
    workflow_id: uuid.UUID | None
    cached_from: uuid.UUID | None
    progress: Progress | None
    result: Any
    errors: list[dict[str, Any]]
    worker: str | None
    seq: int

    @property
    def ended(self) -> bool:
        """Whether it is completed, cancelled or discarded."""
        return self.state in ENDED


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a job: `data` carries what changed.

    Of several `job.progress` that became one, `merged_from` is the first seq and `seq` the last. `cursor` is the place
    after it, to go on from.
    """

    event: str
    job_id: uuid.UUID
    seq: int
    generation: int
    cursor: str
    at: dt.datetime
    data: dict[str, Any]
    merged_from: int | None = None

    @property
    def ends(self) -> bool:
        """Whether the job ended by it."""
        return self.event.removeprefix("job.") in ENDED


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was published to a topic. Its `id` is the cursor to go on from."""

    event: ClassVar[str] = "message"
    topic: str
    id: int
    at: dt.datetime
    data: Any


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Something was missed here: the service does not keep it any more. It goes on from `cursor`."""

    event: ClassVar[str] = "gap"
    cursor: str


class LogLine(msgspec.Struct, frozen=True):
    """A line that a handler logged."""

    seq: int
    at: dt.datetime
    attempt: int
    generation: int
    level: str
    message: str


class Output(msgspec.Struct, frozen=True):
    """A value that a handler put out."""

    seq: int
    at: dt.datetime
    attempt: int
    generation: int
    data: Any
