"""Problems: every refusal and failure as RFC 9457 `application/problem+json`, and nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

import msgspec
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from quarterdeck.domain.errors import Draining, FieldError, InvalidSubmit, JobNotFound, Unavailable, UnknownKind
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
BODY_TOO_LARGE = Family("body-too-large", 413, "The body is too large")
UNSUPPORTED_MEDIA_TYPE = Family("unsupported-media-type", 415, "The body has the wrong media type")
MISDIRECTED = Family("misdirected", 421, "This service does not serve that host")
INVALID = Family("invalid", 422, "The body breaks a rule")
UNKNOWN_KIND = Family("unknown-kind", 422, "The kind is not known")
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
    BODY_TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    MISDIRECTED,
    INVALID,
    UNKNOWN_KIND,
    INTERNAL,
    UNAVAILABLE,
    DRAINING,
)
"""Every problem that this service answers."""

# What Quart refuses by itself.
_BY_STATUS = {
    family.status: family for family in (BAD_REQUEST, NOT_FOUND, METHOD_NOT_ALLOWED, REQUEST_TIMEOUT, BODY_TOO_LARGE)
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
        case InvalidSubmit():
            count = len(error.errors)
            return Refusal(
                INVALID, "A rule is broken" if count == 1 else f"{count} rules are broken", errors=error.errors
            )
        case UnknownKind():
            return Refusal(UNKNOWN_KIND, str(error), errors=[FieldError("/kind", "unknown")])
        case JobNotFound():
            return Refusal(NOT_FOUND, str(error))
        case Unavailable():
            family = DRAINING if isinstance(error, Draining) else UNAVAILABLE
            return Refusal(family, str(error), headers={"Retry-After": str(error.retry_after)})
        case HTTPException(code=int(status)) if status in _BY_STATUS:
            return _refusal_of_quart(_BY_STATUS[status], error)
        case _:
            return _unexpected(error)


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
