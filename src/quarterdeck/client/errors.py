"""What can go wrong, one class for each family of problems that a service answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quarterdeck.client.models import Job

_OF_SLUG: dict[str, type[QuarterdeckClientError]] = {}
_OF_STATUS: dict[int, type[QuarterdeckClientError]] = {}


class QuarterdeckClientError(Exception):
    """The base of all errors here. `problem` is the service's own words (RFC 9457), empty where it gave none."""

    def __init_subclass__(cls, *, status: int | None = None, slug: str | None = None) -> None:
        if status is not None:
            _OF_STATUS[status] = cls
        if slug is not None:
            _OF_SLUG[slug] = cls

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        problem: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.problem = dict(problem or {})
        self.retry_after = retry_after
        """Seconds after which the service wants to be asked again."""

    @property
    def slug(self) -> str | None:
        """The family of the problem: the last part of its type."""
        kind = self.problem.get("type")
        return kind.rpartition("/")[2] if isinstance(kind, str) else None


class Unreachable(QuarterdeckClientError):
    """Nobody answers at the URL, or not in time."""


class Unanswered(Unreachable):
    """The service was asked and did not answer: it may have obeyed or not."""


class UnexpectedAnswer(QuarterdeckClientError):
    """Somebody answers, but not as a Quarterdeck service."""


class Closed(QuarterdeckClientError):
    """The client was closed."""


class BadRequest(QuarterdeckClientError, status=400, slug="bad-request"):
    """The request cannot be understood."""


class BadQuery(BadRequest, slug="bad-query"):
    """A query parameter, a cursor above all, cannot be used."""


class MalformedJson(BadRequest, slug="malformed-json"):
    """The body is not strict JSON."""


class Unauthenticated(QuarterdeckClientError, status=401, slug="unauthenticated"):
    """A valid API key is needed."""


class Forbidden(QuarterdeckClientError, status=403, slug="forbidden"):
    """The key does not allow it."""


class NotFound(QuarterdeckClientError, status=404, slug="not-found"):
    """There is no such thing."""


class MethodNotAllowed(QuarterdeckClientError, status=405, slug="method-not-allowed"):
    """The service is of another version."""


class RequestTimeout(QuarterdeckClientError, status=408, slug="request-timeout"):
    """The body did not arrive in time."""


class Conflict(QuarterdeckClientError, status=409):
    """The job is not in a state that allows it."""


class IdempotencyInFlight(Conflict, slug="idempotency-in-flight"):
    """The first request with the same idempotency key is still being answered."""


class JobRunning(Conflict, slug="job-running"):
    """The job is running."""


class JobEnded(Conflict, slug="job-ended"):
    """The job has ended."""


class JobWaiting(Conflict, slug="job-waiting"):
    """The job is waiting."""


class JobStarted(Conflict, slug="job-started"):
    """The job has started once."""


class UniqueKeyTaken(Conflict, slug="unique-key-taken"):
    """Another job has the unique key."""


class Gone(QuarterdeckClientError, status=410, slug="job-gone"):
    """The job is older than the history that is kept."""


class PreconditionFailed(QuarterdeckClientError, status=412, slug="precondition-failed"):
    """The job has another version."""


class TooLarge(QuarterdeckClientError, status=413, slug="body-too-large"):
    """The body is too large."""


class UnsupportedMediaType(QuarterdeckClientError, status=415, slug="unsupported-media-type"):
    """The body has the wrong media type."""


class Misdirected(QuarterdeckClientError, status=421, slug="misdirected"):
    """The service does not serve the host of the URL."""


class Invalid(QuarterdeckClientError, status=422, slug="invalid"):
    """A rule is broken; `problem["errors"]` says where."""


class UnknownKind(Invalid, slug="unknown-kind"):
    """The kind is not known."""


class IdempotencyMismatch(Invalid, slug="idempotency-mismatch"):
    """The idempotency key was used for something else."""


class TooManyRequests(QuarterdeckClientError, status=429):
    """A limit is reached."""


class QueueFull(TooManyRequests, slug="queue-full"):
    """The queue is full."""


class ServerError(QuarterdeckClientError, status=500, slug="internal"):
    """Something went wrong in the service."""


class Unavailable(QuarterdeckClientError, status=503, slug="unavailable"):
    """The service cannot serve just now."""


class Draining(Unavailable, slug="draining"):
    """The process that was asked is stopping."""


class JobFailed(QuarterdeckClientError):
    """The job has ended without a result."""

    def __init__(self, job: Job) -> None:
        why = [text for text in (job.state_reason, job.state_detail) if text]
        why += [f"{error.get('type')}: {error.get('message')}" for error in job.errors[-1:]]
        super().__init__(f"job {job.id} was {job.state}" + (f": {', '.join(why)}" if why else ""))
        self.job = job


class JobDiscarded(JobFailed):
    """The job failed for good."""


class JobCancelled(JobFailed):
    """The job was cancelled."""


def error_of(
    status: int, problem: Mapping[str, Any], *, retry_after: float | None = None, asked: str = ""
) -> QuarterdeckClientError:
    """The error that a problem is; without a known slug, by its status."""
    slug = str(problem.get("type", "")).rpartition("/")[2]
    by_status = _OF_STATUS.get(status, ServerError if status >= 500 else QuarterdeckClientError)
    kind = _OF_SLUG.get(slug, by_status)
    return kind(f"{asked}{_explained(problem)}", status=status, problem=problem, retry_after=retry_after)


def _explained(problem: Mapping[str, Any]) -> str:
    errors = problem.get("errors") or []
    fields = [f"{each.get('pointer') or '/'}: {each.get('detail')}" for each in errors if isinstance(each, dict)]
    return "; ".join([str(problem.get("detail") or problem.get("title") or problem.get("status")), *fields])
