"""Topics: what is published to them, and what their followers get."""

from __future__ import annotations

import datetime as dt

import msgspec

from quarterdeck.domain.errors import FieldError, InvalidSubmit
from quarterdeck.domain.submission import NAME

MAX_MESSAGE_BYTES = 64 * 1024
"""Bytes of JSON that a message may take."""
KEPT = 1000
"""Messages of a topic that are kept."""
KEPT_SECONDS = 3600.0
"""Seconds that a message is kept."""


class NewMessage(msgspec.Struct, frozen=True):
    """What is to be published; `data` is JSON text."""

    tenant: str
    topic: str
    data: str


class Message(msgspec.Struct, frozen=True):
    """A message of a topic; ids grow by one with each, in the order of their commits."""

    id: int
    at: dt.datetime
    data: msgspec.Raw


class Gap(msgspec.Struct, frozen=True):
    """Messages up to this id may be missing; what follows is complete again."""

    id: int


def is_topic_name(name: str) -> bool:
    """Whether a topic may be called that."""
    return NAME.fullmatch(name) is not None


def new_message(tenant: str, topic: str, data: bytes | msgspec.Raw) -> NewMessage:
    """What is to be published, `data` being JSON. Raises InvalidSubmit for a name or a size that cannot be."""
    errors = []
    if not is_topic_name(topic):
        errors.append(FieldError("/topic", "no topic can have that name"))
    size = len(memoryview(data))
    if size > MAX_MESSAGE_BYTES:
        errors.append(FieldError("/data", f"takes {size} bytes of JSON; the limit is {MAX_MESSAGE_BYTES}"))
    if errors:
        raise InvalidSubmit(errors)
    return NewMessage(tenant, topic, bytes(data).decode())
