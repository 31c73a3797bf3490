"""A durable background-job service on Quart and PostgreSQL."""

# First: parts of the package read it while they are imported.
__version__ = "0.1.0"

from quarterdeck.deck import Quarterdeck
from quarterdeck.domain.errors import (
    InvalidSubmit,
    JobCancelled,
    JobDiscarded,
    JobFailed,
    JobNotFound,
    QuarterdeckError,
    SubmitError,
    Unavailable,
    UnknownKind,
)
from quarterdeck.domain.handler import JobContext
from quarterdeck.domain.job import Job
from quarterdeck.domain.outcome import Cancel, Snooze

__all__ = [
    "Cancel",
    "InvalidSubmit",
    "Job",
    "JobCancelled",
    "JobContext",
    "JobDiscarded",
    "JobFailed",
    "JobNotFound",
    "Quarterdeck",
    "QuarterdeckError",
    "Snooze",
    "SubmitError",
    "Unavailable",
    "UnknownKind",
    "__version__",
]
