"""Problems: every refusal and failure as RFC 9457 `application/problem+json`, and nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

import msgspec
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from quarterdeck.domain.errors import (
    Conflict,
    Draining,
    FieldError,
    IdempotencyInFlight,
    IdempotencyMismatch,
    InvalidSettings,
    InvalidSubmit,
    JobConflict,
    JobGone,
    JobNotFound,
    PreconditionFailed,
    QueueFull,
    Unavailable,
    UnknownKind,
)
from quarterdeck.domain.listing import InvalidListing
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

_LONGEST = 500
CONTENT_TYPE = "application/problem+json"


class Family(msgspec.Struct, frozen=True):
    """A kind of problem: the last part of its type, its status and its title. All of them are documented."""

    slug: str
    status: int
    title: str


BAD_REQUEST = Family("bad-request", 400, "The request cannot be understood")
BAD_QUERY = Family("bad-query", 400, "The query string cannot be used")
MALFORMED_JSON = Family("malformed-json", 400, "The body is not strict JSON")
UNAUTHENTICATED = Family("unauthenticated", 401, "A valid API key is needed")
FORBIDDEN = Family("forbidden", 403, "The request is not allowed")
NOT_FOUND = Family("not-found", 404, "There is nothing here")
METHOD_NOT_ALLOWED = Family("method-not-allowed", 405, "The method cannot be used here")
REQUEST_TIMEOUT = Family("request-timeout", 408, "The body did not come in time")
JOB_CANCELLED = Family("job-cancelled", 409, "The job was cancelled and has no result")
JOB_DISCARDED = Family("job-discarded", 409, "The job failed and has no result")
IDEMPOTENCY_IN_FLIGHT = Family(
    "idempotency-in-flight", 409, "The first request with this idempotency key is still being answered"
)
JOB_RUNNING = Family("job-running", 409, "The job is running")
JOB_ENDED = Family("job-ended", 409, "The job has ended")
JOB_WAITING = Family("job-waiting", 409, "The job is waiting")
JOB_STARTED = Family("job-started", 409, "The job has started once, and its queue is fixed")
UNIQUE_KEY_TAKEN = Family("unique-key-taken", 409, "Another job has the unique key now")
JOB_GONE = Family("job-gone", 410, "The job is older than the history that is kept")
PRECONDITION_FAILED = Family("precondition-failed", 412, "The job is not in the version that If-Match names")
BODY_TOO_LARGE = Family("body-too-large", 413, "The body is too large")
UNSUPPORTED_MEDIA_TYPE = Family("unsupported-media-type", 415, "The body has the wrong media type")
MISDIRECTED = Family("misdirected", 421, "This service does not serve that host")
INVALID = Family("invalid", 422, "The body breaks a rule")
UNKNOWN_KIND = Family("unknown-kind", 422, "The kind is not known")
IDEMPOTENCY_MISMATCH = Family("idempotency-mismatch", 422, "The idempotency key was used with another body")
QUEUE_FULL = Family("queue-full", 429, "The queue is full")
INTERNAL = Family("internal", 500, "Something went wrong here")
UNAVAILABLE = Family("unavailable", 503, "The service cannot serve just now")
DRAINING = Family("draining", 503, "This process is stopping")

CATALOGUE = (
    BAD_REQUEST,
    BAD_QUERY,
    MALFORMED_JSON,
    UNAUTHENTICATED,
    FORBIDDEN,
    NOT_FOUND,
    METHOD_NOT_ALLOWED,
    REQUEST_TIMEOUT,
    JOB_CANCELLED,
    JOB_DISCARDED,
    IDEMPOTENCY_IN_FLIGHT,
    JOB_RUNNING,
    JOB_ENDED,
    JOB_WAITING,
    JOB_STARTED,
    UNIQUE_KEY_TAKEN,
    JOB_GONE,
    PRECONDITION_FAILED,
    BODY_TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    MISDIRECTED,
    INVALID,
    UNKNOWN_KIND,
    IDEMPOTENCY_MISMATCH,
    QUEUE_FULL,
    INTERNAL,
    UNAVAILABLE,
    DRAINING,
)
"""Every problem that this service answers."""

# What Quart refuses by itself.
_BY_STATUS = {
    family.status: family for family in (BAD_REQUEST, NOT_FOUND, METHOD_NOT_ALLOWED, REQUEST_TIMEOUT, BODY_TOO_LARGE)
}

_BY_TYPE: dict[type[Exception], Family] = {
    JobNotFound: NOT_FOUND,
    JobGone: JOB_GONE,
    IdempotencyMismatch: IDEMPOTENCY_MISMATCH,
    PreconditionFailed: PRECONDITION_FAILED,
    InvalidListing: BAD_QUERY,
}
_BY_CONFLICT = {
    Conflict.RUNNING: JOB_RUNNING,
    Conflict.ENDED: JOB_ENDED,
    Conflict.WAITING: JOB_WAITING,
    Conflict.STARTED: JOB_STARTED,
    Conflict.UNIQUE_KEY_TAKEN: UNIQUE_KEY_TAKEN,
}


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The document (RFC 9457). `errors` points into the body; the last three members belong to single families."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []
    state: str | None = None
    state_reason: str | None = None
    error_id: str | None = None


class Refusal(Exception):
    """Raised where a request ends in a problem; `members` are further members of the document."""

    def __init__(
        self,
        family: Family,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        **members: str | None,
    ) -> None:
        super().__init__(detail)
        self.family = family
        self.status = family.status
        self.headers = {"Content-Type": CONTENT_TYPE, **(headers or {})}
        self.problem = Problem(
            type=f"/problems/{family.slug}",
            title=family.title,
            status=family.status,
            detail=_cut(detail),
            errors=[FieldError(_cut(error.pointer), _cut(error.detail)) for error in errors],
            **members,
        )

    def body(self) -> bytes:
        """The document, encoded."""
        return msgspec.json.encode(self.problem)


def _cut(text: str) -> str:
    """What was sent is quoted in part only, however long it was."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def refusal_of(error: Exception) -> Refusal:  # noqa: PLR0911 - a table
    """The problem that an exception becomes; one that nobody expected is logged, and its text stays here."""
    match error:
        case Refusal():
            return error
        case InvalidSubmit() | InvalidSettings():
            count = len(error.errors)
            return Refusal(
                INVALID, "A rule is broken" if count == 1 else f"{count} rules are broken", errors=error.errors
            )
        case UnknownKind():
            return Refusal(UNKNOWN_KIND, str(error), errors=[FieldError("/kind", "unknown")])
        case JobNotFound() | IdempotencyMismatch() | PreconditionFailed() | InvalidListing():
            return Refusal(_BY_TYPE[type(error)], str(error))
        case JobConflict():
            return Refusal(_BY_CONFLICT[error.conflict], str(error), state=error.state)
        case IdempotencyInFlight():
            return Refusal(IDEMPOTENCY_IN_FLIGHT, str(error), headers={"Retry-After": "1"})
        case QueueFull():
            return Refusal(
                QUEUE_FULL, str(error), headers=_limit_headers("max_depth", error.max_depth, error.retry_after)
            )
        case Unavailable():
            family = DRAINING if isinstance(error, Draining) else UNAVAILABLE
            return Refusal(family, str(error), headers={"Retry-After": str(error.retry_after)})
        case HTTPException(code=int(status)) if status in _BY_STATUS:
            return _refusal_of_quart(_BY_STATUS[status], error)
        case _:
            return _unexpected(error)


def _limit_headers(policy: str, quota: int, retry_after: int) -> dict[str, str]:
    """What a 429 says of the limit that was reached (draft-ietf-httpapi-ratelimit-headers)."""
    return {
        "Retry-After": str(retry_after),
        "RateLimit-Policy": f'"{policy}";q={quota}',
        "RateLimit": f'"{policy}";r=0;t={retry_after}',
    }


def _refusal_of_quart(family: Family, error: HTTPException) -> Refusal:
    allowed = error.valid_methods if isinstance(error, MethodNotAllowed) else None
    if allowed:
        methods = ", ".join(sorted(allowed))
        return Refusal(family, f"Use one of: {methods}", headers={"Allow": methods})
    return Refusal(family, "No route has this path" if family is NOT_FOUND else family.title)


def _unexpected(error: Exception) -> Refusal:
    error_id = secrets.token_hex(8)
    log.error("request.failed", error_id=error_id, exc_info=error)
    return Refusal(INTERNAL, "An unexpected error; the log of the service has it under this id", error_id=error_id)
