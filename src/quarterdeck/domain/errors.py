"""Every error that callers of this package can meet.

QuarterdeckError
├── SubmitError               the work cannot be accepted as it is
│   ├── InvalidSubmit         fields that break a rule, each with a pointer
│   └── UnknownKind           registered neither here nor ever in this database
├── JobNotFound               no job of that id for this caller
├── JobFailed                 the job ended without a result
│   ├── JobDiscarded
│   └── JobCancelled
├── ResultError               what a handler returned is not JSON, or is too large
├── ArgsError                 arguments that do not fit the handler's signature
└── Unavailable               the database cannot be reached just now
    └── Draining              this process is stopping
"""

from __future__ import annotations

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


class JobNotFound(QuarterdeckError):
    """No job of that id exists for this caller."""


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


class Unavailable(QuarterdeckError):
    """The database cannot be reached just now; the caller may try again after `retry_after` seconds."""

    retry_after = 1


class Draining(Unavailable):
    """This process is stopping and accepts nothing new."""
