"""Live: the parts behind live updates, and their loops."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from quarterdeck.domain.jsonvalue import encode_result
from quarterdeck.domain.state import TERMINAL
from quarterdeck.engine.announcer import Announcer
from quarterdeck.engine.bus import Bus
from quarterdeck.engine.calls import Calls
from quarterdeck.engine.feed import Feed
from quarterdeck.engine.meter import Meter
from quarterdeck.engine.streams import JobStreams
from quarterdeck.engine.tickets import Tickets
from quarterdeck.engine.topics import Topics
from quarterdeck.engine.waiters import Waiters
from quarterdeck.store import pool
from quarterdeck.store.attempts import Written
from quarterdeck.store.events import EventStore
from quarterdeck.store.feed import FeedStore
from quarterdeck.store.tickets import TicketStore
from quarterdeck.store.topics import TopicStore


class Live:
    """What subscribers follow: jobs, feeds and topics; and how processes tell each other of them."""

    def __init__(
        self,
        *,
        api: pool.Pool,
        bus: Bus | None,
        calls: Calls,
        waiters: Waiters,
        worker: Callable[[], str | None],
        meter: Meter,
    ) -> None:
        """`worker` tells this process's id among the workers, while it has one; without a `bus` nobody is told."""
        self._waiters = waiters
        self._worker = worker
        self.on_work: Callable[[Iterable[str]], None] = lambda _: None
        """Hears of queues that another process has new work in."""
        self.on_cancel: Callable[[uuid.UUID], object] = lambda _: None
        """Hears of jobs that somebody asked another process to cancel."""
        self._audience: set[Callable[[], None]] = set()
        self._draining = False
        self.streams = JobStreams(EventStore(api), waiters=waiters, calls=calls, meter=meter)
        self.announcer = Announcer(
            bus,
            on_jobs=waiters.look,
            on_work=self._on_work,
            on_cancel=self._on_cancel,
            on_topic=self._on_topic,
            on_feed=self._on_feed,
        )
        self.feed = Feed(FeedStore(api), EventStore(api), calls=calls, meter=meter, worker=worker)
        self.topics = Topics(TopicStore(api), calls=calls, meter=meter, announce=self.announcer.topic)
        waiters.on_watch = self.announcer.watch
        self.feed.on_watch = partial(self.announcer.watch, what="feed")
        self.topics.on_watch = partial(self.announcer.watch, what="topics")
        for kind in ("feed", "topics"):
            self.announcer.watch(False, kind)  # noqa: FBT003 - nobody does yet
        self.tickets = Tickets(TicketStore(api), calls=calls)

    def loops(self) -> Iterator[tuple[str, Callable[[], Coroutine[Any, Any, None]]]]:
        """The loops that the engine is to run, by name."""
        yield from self.announcer.loops()
        yield "streams", self.streams.run
        yield "feed", self.feed.run
        yield "feed pruner", self.feed.prune
        yield from self.topics.loops()

    @contextmanager
    def audience(self, leave: Callable[[], None]) -> Iterator[None]:
        """While it lasts, `leave` is called when this process begins to stop; at once if it has begun."""
        self._audience.add(leave)
        if self._draining:
            leave()
        try:
            yield
        finally:
            self._audience.discard(leave)

    @property
    def listeners(self) -> int:
        """How many sockets and streams are served."""
        return len(self._audience)

    @property
    def draining(self) -> bool:
        """Whether this process has begun to stop."""
        return self._draining

    def drain(self) -> None:
        """This process begins to stop: everybody who listens has to leave."""
        self._draining = True
        for leave in tuple(self._audience):
            leave()

    def changed(self, ids: Collection[uuid.UUID]) -> None:
        """These jobs have changed by something that this process has committed, and have not ended by it."""
        for job_id in ids:
            self._waiters.moved(job_id, ended=False)
        self._spread(ids)

    def written(self, rows: Sequence[Written]) -> None:
        """The same, as a write left them."""
        for row in rows:
            self._waiters.moved(row.id, ended=row.state in TERMINAL)
        self._spread([row.id for row in rows])

    async def publish(self, topic: str, data: Any, *, tenant: str) -> int:
        """Publishes a value of a handler's to a topic; returns the message's id.

        Raises ResultError where it is not JSON, InvalidSubmit for an illegal name or too much of it, Unavailable.
        """
        return await self.topics.publish(tenant, topic, encode_result(data).encode())

    def _on_work(self, queues: Iterable[str]) -> None:
        self.on_work(queues)

    def _on_cancel(self, job_id: uuid.UUID) -> None:
        self.on_cancel(job_id)

    def _on_topic(self, tenant: str, name: str) -> None:
        self.topics.hinted(tenant, name)

    def _on_feed(self) -> None:
        self.feed.wake()

    def _spread(self, ids: Collection[uuid.UUID]) -> None:
        if ids:
            self.announcer.jobs(ids)
            self.announcer.feed()
            self.feed.wake()
