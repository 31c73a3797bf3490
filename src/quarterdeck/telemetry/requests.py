"""What is known of a request when it has been answered, for the log and the metrics."""

from __future__ import annotations

from typing import Any

import msgspec

RECORD = "quarterdeck.request"
"""Where an ASGI scope has its RequestRecord."""


class RequestRecord(msgspec.Struct):
    """Filled in by those who serve the request. Nothing in it is a secret: `principal` is the name of a key."""

    id: str
    principal: str | None = None
    route: str | None = None
    status: int | None = None
    bytes: int = 0


def record_of(scope: Any) -> RequestRecord | None:
    """The record in a scope, if the request came as far as us."""
    record = scope.get(RECORD)
    return record if isinstance(record, RequestRecord) else None
