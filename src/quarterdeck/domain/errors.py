"""Every error that callers of this package can meet.

QuarterdeckError
├── SubmitError               the work cannot be accepted as it is
│   ├── InvalidSubmit         fields that break a rule, each with a pointer
│   └── UnknownKind           registered neither here nor ever in this database
├── IdempotencyMismatch       the key was used with another body
├── IdempotencyInFlight       the first request with the key is still being answered
├── QueueFull                 the queue holds as many jobs as its max_depth allows
├── InvalidSettings           settings of a queue that break a rule, each with a pointer
├── JobNotFound               no job of that id for this caller
│   └── JobGone               it is older than the history that is kept
├── JobConflict               the job's state does not allow what was asked; `conflict` says why
├── PreconditionFailed        the job is not in the version that the caller knows
├── JobFailed                 the job ended without a result
│   ├── JobDiscarded
│   └── JobCancelled
├── ResultError               what a handler returned is not JSON, or is too large
├── ArgsError                 arguments that do not fit the handler's signature
├── Rejection                 raised by a handler: no further attempt can help
├── RetryLater                raised by a handler: the next attempt is not to begin before some time is over
└── Unavailable               the database cannot be reached just now
    └── Draining              this process is stopping
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from quarterdeck.domain.job import Job


class QuarterdeckError(Exception):
    """The base of all errors of this package."""


class FieldError(msgspec.Struct, frozen=True):
    """One broken rule: a JSON pointer (RFC 6901) into the submitted document, and what is wrong there."""

    pointer: str
    detail: str


class SubmitError(QuarterdeckError):
    """The work cannot be accepted as it is."""


class InvalidSubmit(SubmitError):
    """One or more fields break a rule; `errors` says which."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(f"{error.pointer or '/'}: {error.detail}" for error in errors))
        self.errors = errors


class UnknownKind(SubmitError):
    """The kind is registered neither in this process nor was it ever in this database."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"no handler was ever registered for kind {kind!r}")
        self.kind = kind


class IdempotencyMismatch(QuarterdeckError):
    """The idempotency key was used before, with another body."""


class IdempotencyInFlight(QuarterdeckError):
    """The first request with this idempotency key is still being answered in this process."""


class QueueFull(QuarterdeckError):
    """The queue holds as many unfinished jobs as its `max_depth` allows; try again after `retry_after` seconds."""

    retry_after = 1

    def __init__(self, queue: str, max_depth: int) -> None:
        super().__init__(f"queue {queue!r} holds as many jobs as its max_depth allows: {max_depth}")
        self.queue = queue
        self.max_depth = max_depth


class InvalidSettings(QuarterdeckError):
    """One or more settings of a queue break a rule; `errors` says which."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(f"{error.pointer or '/'}: {error.detail}" for error in errors))
        self.errors = errors


class JobNotFound(QuarterdeckError):
    """No job of that id exists for this caller."""


class JobGone(JobNotFound):
    """If there was a job of that id, it is older than the history that is kept."""


class Conflict(StrEnum):
    """Why a job's state does not allow something."""

    RUNNING = "running"
    ENDED = "ended"
    WAITING = "waiting"
    STARTED = "started"
    UNIQUE_KEY_TAKEN = "unique_key_taken"


class JobConflict(QuarterdeckError):
    """The job's state does not allow what was asked for; `state` is where it stands, where that matters."""

    def __init__(self, conflict: Conflict, message: str, state: str | None = None) -> None:
        super().__init__(message)
        self.conflict = conflict
        self.state = state


class PreconditionFailed(QuarterdeckError):
    """The job is not in the version that the caller knows."""


class JobFailed(QuarterdeckError):
    """The job ended without a result; `job` is its last state."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} was {job.state.value}" + (f" ({job.state_reason})" if job.state_reason else ""))
        self.job = job


class JobDiscarded(JobFailed):
    """The job was discarded: out of attempts, rejected, expired or crashed."""


class JobCancelled(JobFailed):
    """The job was cancelled."""


class ResultError(QuarterdeckError):
    """What a handler returned cannot be stored: not JSON, or over the size limit."""


class ArgsError(QuarterdeckError):
    """Arguments that do not fit the handler's signature; `error` says where and why."""

    def __init__(self, error: FieldError) -> None:
        super().__init__(f"{error.pointer}: {error.detail}")
        self.error = error


class Rejection(QuarterdeckError):
    """Raised by a handler where no further attempt can help: the job ends `rejected`, for the reason given in words."""


class RetryLater(QuarterdeckError):
    """Raised by a handler: the attempt failed, and the next one is to begin no sooner than `seconds` from now."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class Unavailable(QuarterdeckError):
    """The database cannot be reached just now; the caller may try again after `retry_after` seconds."""

    retry_after = 1


class Draining(Unavailable):
    """This process is stopping and accepts nothing new."""
