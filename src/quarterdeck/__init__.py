"""A durable background-job service on Quart and PostgreSQL."""

from quarterdeck.deck import Quarterdeck
from quarterdeck.domain.errors import (
    InvalidSubmit,
    JobCancelled,
    JobDiscarded,
    JobFailed,
    JobGone,
    JobNotFound,
    QuarterdeckError,
    SubmitError,
    Unavailable,
    UnknownKind,
)
from quarterdeck.domain.events import Event
from quarterdeck.domain.handler import JobContext
from quarterdeck.domain.job import Job
from quarterdeck.domain.outcome import Cancel, Snooze
from quarterdeck.version import __version__

__all__ = [
    "Cancel",
    "Event",
    "InvalidSubmit",
    "Job",
    "JobCancelled",
    "JobContext",
    "JobDiscarded",
    "JobFailed",
    "JobGone",
    "JobNotFound",
    "Quarterdeck",
    "QuarterdeckError",
    "Snooze",
    "SubmitError",
    "Unavailable",
    "UnknownKind",
    "__version__",
]
