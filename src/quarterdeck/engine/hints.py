"""Hints: what one process has to tell the others, merged until it is sent, and the form in which it is sent."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Literal

import msgspec

Kind = Literal["jobs", "work", "cancel", "topics", "feed"]
KINDS: AbstractSet[Kind] = frozenset({"jobs", "work", "cancel", "topics", "feed"})

MOST_MESSAGES = 4
"""Messages that are sent at a time. Where the ids of jobs would need more, they say "look at all"."""
MOST_KEPT = 4096
"""Hints of a kind that are kept; the rest are left to the polls."""
ID_SIZE = 35
"""Bytes of an id in a message."""
FRAME = 256
"""Bytes of a message without its lists, at most: its keys, the sender's name, a hello."""


class Message(msgspec.Struct, omit_defaults=True):
    """What goes over the bus, as a JSON object. Fields that somebody does not know are passed over."""

    process: str
    hello: list[str] | None = None
    """The kinds of hints that the process wants."""
    new: bool = False
    """Whether the process has just connected, and wants to hear who is there."""
    jobs: list[uuid.UUID] = []
    all_jobs: bool = False
    work: list[str] = []
    cancel: list[uuid.UUID] = []
    topics: list[tuple[str, str]] = []
    feed: bool = False


_encoder = msgspec.json.Encoder(uuid_format="hex")
_decoder = msgspec.json.Decoder(Message)


def to_text(message: Message) -> str:
    """The message as JSON."""
    return _encoder.encode(message).decode()


def from_text(text: str) -> Message | None:
    """The message in a text; None where it is none of ours."""
    try:
        return _decoder.decode(text)
    except (ValueError, RecursionError):
        return None


class Hints:
    """What is still to be told, of each kind once. Adding never fails, and takes no more than a bounded room."""

    def __init__(self, limit: int) -> None:
        """`limit` is the most bytes of a message."""
        self._room = limit - FRAME
        self._most_jobs = MOST_MESSAGES * self._room // ID_SIZE
        self._jobs: set[uuid.UUID] = set()
        self._all_jobs = False
        self._work: set[str] = set()
        self._cancel: set[uuid.UUID] = set()
        self._topics: set[tuple[str, str]] = set()
        self._feed = False

    def add_jobs(self, ids: Iterable[uuid.UUID]) -> None:
        """These jobs have changed."""
        if not self._all_jobs:
            self._jobs.update(ids)
            if len(self._jobs) > self._most_jobs:
                self.add_all_jobs()

    def add_all_jobs(self) -> None:
        """So many jobs have changed, or nobody knows which, that all are to be looked at."""
        self._all_jobs = True
        self._jobs.clear()

    def add_work(self, queues: Iterable[str]) -> None:
        """There are available jobs in these queues."""
        _add(self._work, queues)

    def add_cancel(self, ids: Iterable[uuid.UUID]) -> None:
        """These running jobs were asked to cancel."""
        _add(self._cancel, ids)

    def add_topics(self, topics: Iterable[tuple[str, str]]) -> None:
        """Something was published to these topics, by tenant and name."""
        _add(self._topics, topics)

    def add_feed(self) -> None:
        """The feed log has grown."""
        self._feed = True

    def put_back(self, messages: Iterable[Message]) -> None:
        """These could not be sent."""
        for message in messages:
            self.add_jobs(message.jobs)
            if message.all_jobs:
                self.add_all_jobs()
            self.add_work(message.work)
            self.add_cancel(message.cancel)
            self.add_topics(message.topics)
            self._feed = self._feed or message.feed

    def kinds(self) -> AbstractSet[Kind]:
        """Of which kinds there is something to tell."""
        there: dict[Kind, object] = {
            "jobs": self._jobs or self._all_jobs,
            "work": self._work,
            "cancel": self._cancel,
            "topics": self._topics,
            "feed": self._feed,
        }
        return {kind for kind, some in there.items() if some}

    def drop(self, kinds: Collection[Kind]) -> None:
        """Nobody wants these kinds."""
        if "jobs" in kinds:
            self._jobs.clear()
            self._all_jobs = False
        if "feed" in kinds:
            self._feed = False
        for kind, hints in (("work", self._work), ("cancel", self._cancel), ("topics", self._topics)):
            if kind in kinds:
                hints.clear()

    def take(self, process: str, kinds: Collection[Kind]) -> list[Message]:
        """Takes out what goes into the next messages, the first of which is there in any case.

        Only of these kinds; what finds no room stays for the next time, but for jobs: then all are to be looked at.
        """
        packer = _Packer(process, self._room)
        if "feed" in kinds and self._feed:
            packer.messages[0].feed, self._feed = True, False
        if "cancel" in kinds:
            self._cancel = packer.pack(self._cancel, lambda message: message.cancel)
        if "work" in kinds:
            self._work = packer.pack(self._work, lambda message: message.work)
        if "topics" in kinds:
            self._topics = packer.pack(self._topics, lambda message: message.topics)
        if "jobs" in kinds and not self._all_jobs:
            if packer.pack(self._jobs, lambda message: message.jobs):
                self._all_jobs = True
                for message in packer.messages:
                    message.jobs = []
            self._jobs = set()
        if "jobs" in kinds and self._all_jobs:
            packer.messages[0].all_jobs, self._all_jobs = True, False
        first, *others = packer.messages
        return [first, *(each for each in others if each != Message(process))]


class _Packer:
    """Fills messages one after the other."""

    def __init__(self, process: str, room: int) -> None:
        self.messages: Sequence[Message] = [Message(process)]
        self._process = process
        self._room = room
        self._left: float = room

    def pack(self, items: Collection[Any], list_of: Callable[[Message], list[Any]]) -> set[Any]:
        """Puts items into the lists of messages; returns those for which there is no room. Impossible ones are lost."""
        left = set()
        for item in items:
            size = _size(item)
            if size > self._room:
                continue
            if size > self._left:
                if len(self.messages) == MOST_MESSAGES:
                    left.add(item)
                    continue
                self.messages = [*self.messages, Message(self._process)]
                self._left = self._room
            self._left -= size
            list_of(self.messages[-1]).append(item)
        return left


def _size(item: object) -> float:
    if isinstance(item, uuid.UUID):
        return ID_SIZE
    try:
        return len(_encoder.encode(item)) + 1
    except ValueError:  # a lone surrogate, which no name has
        return float("inf")


def _add(kept: set[Any], more: Iterable[Any]) -> None:
    if len(kept) < MOST_KEPT:
        kept.update(more)
