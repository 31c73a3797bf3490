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

    def allows(self, target: str, value: object) -> bool:
        """Whether it lets its holder follow `value` as a job, a tag or a topic, or do something else (`target`)."""
        if self.job is None and self.tag is None and self.topic is None:
            return True
        allowed: object = {"job": self.job, "tag": self.tag, "topic": self.topic}.get(target)
        return allowed is not None and value == allowed
