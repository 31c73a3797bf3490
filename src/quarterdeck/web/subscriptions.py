"""Subscriptions: what a client of the live channel follows, as frames."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from quarterdeck.domain.errors import JobNotFound
from quarterdeck.domain.events import Event
from quarterdeck.domain.feeds import Gap as FeedGap
from quarterdeck.domain.topic import Gap as TopicGap
from quarterdeck.engine.feed_following import FeedFollowing
from quarterdeck.engine.service import Engine
from quarterdeck.engine.streams import Following, Gone
from quarterdeck.engine.topics import Following as TopicFollowing
from quarterdeck.web.frames import GapFrame, SnapshotFrame, SubscribedFrame, event_fields, message_fields, text_of
from quarterdeck.web.problems import NOT_FOUND, Refusal
from quarterdeck.web.schemas import job_body

MOST = 100
"""Frames that one subscription gives before it is another's turn."""

Ready = Callable[[], None]


class Subscription(Protocol):
    """Something that is followed under a client's own name for it."""

    async def begin(self) -> Sequence[str]:
        """The first frames. Raises what the engine raises."""

    async def take(self) -> Sequence[str]:
        """The next frames, or none yet. Raises Refusal where it cannot go on, Ended where it is over."""

    @property
    def pending(self) -> bool:
        """Whether there is something to take."""

    def close(self) -> None:
        """Stops to follow."""


class Ended(Exception):
    """A subscription has ended by itself; `frames` are its last ones."""

    def __init__(self, frames: Sequence[str]) -> None:
        super().__init__("the subscription has ended")
        self.frames = frames


class Events:
    """Makes the frames of events under one name."""

    def __init__(self, sub: str) -> None:
        self._head = _head("event", sub)

    def frame(self, event: Event, cursor: str) -> str:
        """The frame of an event."""
        return f"{self._head}{event_fields(event, cursor)}}}"


def _head(kind: str, sub: str) -> str:
    return f'{{"type":"{kind}","sub":{msgspec.json.encode(sub).decode()},'


class JobSubscription:
    """Follows one job: its snapshot, then its events. With `wait` the job need not exist yet."""

    def __init__(
        self, engine: Engine, sub: str, job_id: uuid.UUID, ready: Ready, *, tenant: str, after: int | None, wait: bool
    ) -> None:
        self._engine = engine
        self._sub = sub
        self._job_id = job_id
        self._ready = ready
        self._tenant = tenant
        self._after = after
        self._wait = wait
        self._events = Events(sub)
        self._following: Following | None = None
        self._begun = False

    async def begin(self) -> Sequence[str]:
        """The snapshot; nothing where the job does not exist and may be waited for. Raises JobNotFound, Unavailable."""
        try:
            job = await self._engine.jobs.get(self._job_id, tenant=self._tenant)
        except JobNotFound:
            if not self._wait or (self._following is not None and self._following.stream.found):
                raise  # it is gone, or another tenant's
            if self._following is None:
                self._follow(0, None)
            return []
        self._begun = True
        # What happened since the job was looked up is read with the rest: events can be read again, by their numbers.
        self._follow(job.seq if self._after is None else self._after, job.seq)
        return [text_of(SnapshotFrame(self._sub, job_body(job)))]

    def _follow(self, after: int, seq: int | None) -> None:
        before = self._following
        self._following = self._engine.live.streams.follow(self._job_id, after, self._ready, seq=seq)
        if before is not None:
            before.close()

    @property
    def pending(self) -> bool:
        """Whether there is something to take."""
        following = self._following
        return following is not None and (following.pending or (not self._begun and following.stream.found))

    async def take(self) -> Sequence[str]:
        """The next frames."""
        following = self._following
        if following is None or not self._begun:
            return await self.begin()
        try:
            events = await following.take(MOST)
        except Gone as gone:
            raise Refusal(NOT_FOUND, str(gone)) from None
        return [self._events.frame(event, str(event.seq)) for event in events]

    def close(self) -> None:
        """Stops to follow."""
        if self._following is not None:
            self._following.close()


class WatchSubscription:
    """Follows a job that was just submitted, after the seq of the answer, until it ends."""

    def __init__(self, engine: Engine, sub: str, jobs: Sequence[tuple[uuid.UUID, int]], ready: Ready) -> None:
        self._events = Events(sub)
        self._followings = {job_id: engine.live.streams.follow(job_id, seq, ready, seq=seq) for job_id, seq in jobs}

    async def begin(self) -> Sequence[str]:
        """Nothing: the frame `submitted` was the first."""
        return []

    @property
    def pending(self) -> bool:
        """Whether there is something to take."""
        return any(following.pending for following in self._followings.values())

    async def take(self) -> Sequence[str]:
        """The next frames. Raises Ended after the last."""
        frames: list[str] = []
        for job_id, following in list(self._followings.items()):
            if not following.pending:
                continue
            try:
                events = await following.take(MOST)
            except Gone:
                self._drop(job_id)
                continue
            frames += [self._events.frame(event, str(event.seq)) for event in events]
            if events and events[-1].ends:
                self._drop(job_id)
            if len(frames) >= MOST:
                break
        if not self._followings:
            raise Ended(frames)
        return frames

    def _drop(self, job_id: uuid.UUID) -> None:
        self._followings.pop(job_id).close()

    def close(self) -> None:
        """Stops to follow."""
        for job_id in list(self._followings):
            self._drop(job_id)


class FeedSubscription:
    """Follows a feed."""

    def __init__(self, sub: str, following: FeedFollowing) -> None:
        self._sub = sub
        self._following = following
        self._events = Events(sub)

    async def begin(self) -> Sequence[str]:
        """Where it begins."""
        return [text_of(SubscribedFrame(self._sub, self._following.cursor))]

    @property
    def pending(self) -> bool:
        """Whether there is something to take."""
        return self._following.pending

    async def take(self) -> Sequence[str]:
        """The next frames."""
        return [
            text_of(GapFrame(self._sub, item.cursor))
            if isinstance(item, FeedGap)
            else self._events.frame(item.event, item.cursor)
            for item in await self._following.take(MOST)
        ]

    def close(self) -> None:
        """Stops to follow."""
        self._following.close()


class TopicSubscription:
    """Follows a topic."""

    def __init__(self, sub: str, topic: str, following: TopicFollowing) -> None:
        self._sub = sub
        self._topic = topic
        self._following = following
        self._head = _head("message", sub)

    async def begin(self) -> Sequence[str]:
        """Where it begins."""
        return [text_of(SubscribedFrame(self._sub, str(self._following.last)))]

    @property
    def pending(self) -> bool:
        """Whether there is something to take."""
        return self._following.pending

    async def take(self) -> Sequence[str]:
        """The next frames."""
        return [
            text_of(GapFrame(self._sub, str(item.id)))
            if isinstance(item, TopicGap)
            else f"{self._head}{message_fields(self._topic, item)}}}"
            for item in await self._following.take(MOST)
        ]

    def close(self) -> None:
        """Stops to follow."""
        self._following.close()
