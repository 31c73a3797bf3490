"""A queue: its settings, what may be said to change them, and what is counted in it."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

import msgspec

from quarterdeck.domain.duration import parse_duration
from quarterdeck.domain.errors import FieldError, InvalidSettings
from quarterdeck.domain.rate import parse_rate
from quarterdeck.domain.submission import NAME

DEFAULT_PER_KEY = 1
"""Jobs of one concurrency key that run at the same time where the queue does not say otherwise."""
MAX_INTEGER = 2**31 - 1
MAX_MAX_DEPTH = 10**12

# Part of the interface, built by later releases; refused until then, never ignored.
LATER = ("concurrency", "concurrency_per_key", "rate", "rate_per_key", "retention")
NOT_YET = "not supported by this release"

Count = Annotated[int, msgspec.Meta(ge=1, le=MAX_INTEGER)]
CountOrNone = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
Depths = Annotated[int, msgspec.Meta(ge=1, le=MAX_MAX_DEPTH)]


class QueuePatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Changes of a queue's settings: what is not given stays, null goes back to the default.

    `max_depth` is the number of unfinished jobs beyond which submits are refused. A rate is text such as `"100/1m"`,
    `retention` a duration.
    """

    paused: bool | msgspec.UnsetType | None = msgspec.UNSET
    concurrency: Count | msgspec.UnsetType | None = msgspec.UNSET
    concurrency_per_key: CountOrNone | msgspec.UnsetType | None = msgspec.UNSET
    rate: str | msgspec.UnsetType | None = msgspec.UNSET
    rate_per_key: str | msgspec.UnsetType | None = msgspec.UNSET
    retention: float | str | msgspec.UnsetType | None = msgspec.UNSET
    max_depth: Depths | msgspec.UnsetType | None = msgspec.UNSET


class QueueSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A queue's settings; the defaults are those of a queue that was never set. `retention` is seconds."""

    paused: bool = False
    concurrency: int | None = None
    concurrency_per_key: int = DEFAULT_PER_KEY
    rate: str | None = None
    rate_per_key: str | None = None
    retention: float | None = None
    max_depth: int | None = None


class Depth(msgspec.Struct, frozen=True, kw_only=True):
    """The unfinished jobs of a queue at the moment `as_of`, and how long its oldest available one has been due."""

    as_of: dt.datetime
    available: int
    running: int
    scheduled: int
    retryable: int
    pending: int
    oldest_available_age: float | None


class QueueReport(msgspec.Struct, frozen=True):
    """All there is to say about a queue; `throughput` is jobs that ended per second."""

    name: str
    settings: QueueSettings
    depth: Depth
    throughput: float


def is_queue_name(name: str) -> bool:
    """Whether a queue may be called that."""
    return NAME.fullmatch(name) is not None


def checked(patch: QueuePatch) -> QueuePatch:
    """The patch itself. Raises InvalidSettings for a rule that its types do not tell, and for what is not built yet."""
    errors = []
    for field in LATER:
        value = getattr(patch, field)
        if value is msgspec.UNSET or value is None:
            continue
        try:
            _check(field, value)
        except ValueError as error:
            errors.append(FieldError(f"/{field}", str(error)))
        else:
            errors.append(FieldError(f"/{field}", NOT_YET))
    if errors:
        raise InvalidSettings(errors)
    return patch


def _check(field: str, value: Any) -> None:
    if field.startswith("rate"):
        parse_rate(value)
    elif field == "retention" and parse_duration(value) == 0:
        raise ValueError("must be more than 0")
