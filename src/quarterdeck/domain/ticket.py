"""A ticket: what stands in for a key where none can be sent."""

from __future__ import annotations

import uuid

import msgspec


class Ticket(msgspec.Struct, frozen=True):
    """Who asked for it, and what it allows: everything of theirs, or to watch one job, tag or topic only."""

    principal: str
    tenant: str
    scopes: frozenset[str]
    job: uuid.UUID | None = None
    tag: str | None = None
    topic: str | None = None
