"""Subscriptions: what is followed, how far it has come, and what came and was not taken yet."""

from __future__ import annotations

import asyncio
import uuid
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from typing import Any

import msgspec

from quarterdeck.client.connection import Frame
from quarterdeck.client.errors import QuarterdeckClientError
from quarterdeck.client.models import ENDED, Event, Gap, Message

MOST = 256
"""Items that wait to be taken; beyond that the service is asked to stop, and asked again once all are taken."""
REMEMBERED = 4096
"""Jobs of a feed whose last event is remembered: where a feed goes on, some of its events may come again."""

Item = Event | Message | Gap


class Subscription(ABC):
    """What one watch follows."""

    def __init__(self) -> None:
        self.items: deque[Item] = deque()
        self.name: str | None = None
        """What it is called on the present connection; None where it is not there."""
        self.begun = False
        self.over = False
        self.error: QuarterdeckClientError | None = None
        self.failures = 0
        self.changed = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whether whoever takes is too far behind."""
        return len(self.items) >= MOST

    @abstractmethod
    def wanted(self) -> dict[str, Any]:
        """What to ask for, from where it has come."""

    def take(self, frame: Frame, document: dict[str, Any]) -> None:
        """A frame for it. Raises ValueError where it cannot be read."""
        if frame.type in ("snapshot", "subscribed"):
            self._begin(frame)
            self.begun, self.failures = True, 0
        elif (item := self._item(frame, document)) is not None:
            self.items.append(item)
        self.changed.set()

    def fail(self, error: QuarterdeckClientError) -> None:
        """It cannot go on."""
        self.error, self.over = error, True
        self.changed.set()

    @abstractmethod
    def _begin(self, frame: Frame) -> None:
        """The service has begun to follow."""

    @abstractmethod
    def _item(self, frame: Frame, document: dict[str, Any]) -> Item | None:
        """What a frame holds, if it is new."""


class JobSubscription(Subscription):
    """One job, after one of its events and until it has ended."""

    def __init__(self, job_id: str, after: int) -> None:
        super().__init__()
        self._job_id = job_id
        self._after = after
        self._known = 0

    def wanted(self) -> dict[str, Any]:
        """The job, after the last event that came."""
        return {"job": self._job_id, "after": self._after}

    def _begin(self, frame: Frame) -> None:
        if frame.job is not None:
            self._known = frame.job.seq
            self.over = frame.job.state in ENDED and self._after >= frame.job.seq

    def _item(self, frame: Frame, document: dict[str, Any]) -> Item | None:
        if frame.type != "event":
            return None
        event = msgspec.convert(document, Event)
        if event.seq <= self._after:
            return None
        self._after = event.seq
        # One that was run again by hand has ended before.
        self.over = event.ends and event.seq >= self._known
        return event


class FeedSubscription(Subscription):
    """All jobs that have something in common."""

    def __init__(self, target: dict[str, Any], cursor: str | None) -> None:
        super().__init__()
        self._target = target
        self._cursor = cursor
        self._seen: OrderedDict[uuid.UUID, int] = OrderedDict()

    def wanted(self) -> dict[str, Any]:
        """The feed, from its cursor."""
        return self._target if self._cursor is None else {**self._target, "cursor": self._cursor}

    def _begin(self, frame: Frame) -> None:
        self._cursor = frame.cursor

    def _item(self, frame: Frame, document: dict[str, Any]) -> Item | None:
        if frame.type not in ("event", "gap"):
            return None
        self._cursor = frame.cursor
        if frame.type == "gap":
            return msgspec.convert(document, Gap)
        event = msgspec.convert(document, Event)
        if event.seq <= self._seen.get(event.job_id, 0):
            return None
        self._seen[event.job_id] = event.seq
        self._seen.move_to_end(event.job_id)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return event


class TopicSubscription(Subscription):
    """The messages of a topic."""

    def __init__(self, topic: str, cursor: str | None) -> None:
        super().__init__()
        self._topic = topic
        self._cursor = cursor

    def wanted(self) -> dict[str, Any]:
        """The topic, after the last message that came."""
        target = {"topic": self._topic}
        return target if self._cursor is None else {**target, "cursor": self._cursor}

    def _begin(self, frame: Frame) -> None:
        self._cursor = frame.cursor

    def _item(self, frame: Frame, document: dict[str, Any]) -> Item | None:
        if frame.type == "gap":
            self._cursor = frame.cursor
            return msgspec.convert(document, Gap)
        if frame.type != "message":
            return None
        message = msgspec.convert(document, Message)
        if self._cursor is not None and message.id <= int(self._cursor):
            return None
        self._cursor = str(message.id)
        return message
