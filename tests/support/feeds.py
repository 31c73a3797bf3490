"""Feeds for tests: on a database of their own, with followers that remember what they took."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from quarterdeck.domain.feeds import FeedEvent, FeedFilter, Gap
from quarterdeck.engine.calls import Calls
from quarterdeck.engine.feed import Feed
from quarterdeck.engine.feed_following import FeedFollowing
from quarterdeck.engine.feed_ring import FeedRing
from quarterdeck.engine.tasks import Tasks
from quarterdeck.store.events import EventStore
from quarterdeck.store.feed import FeedStore
from quarterdeck.telemetry.metrics import Metrics
from tests.support.factories import Stores

ALL = FeedFilter(all=True)


class Follower:
    """Takes what a following has, whenever there is something."""

    def __init__(self, feed: Feed, following: FeedFollowing, news: asyncio.Event) -> None:
        self._feed = feed
        self.following = following
        self.took: list[FeedEvent | Gap] = []
        self._news = news

    async def take(self, most: int = 100) -> list[FeedEvent | Gap]:
        """Whatever is there just now."""
        taken: list[FeedEvent | Gap] = []
        while self.following.pending:
            taken += await self.following.take(most)
        self.took += taken
        return taken

    async def until(self, count: int, within: float = 10.0) -> list[Any]:
        """Take until there are `count` things, and tell them: `(job id, seq)`, or `gap`."""
        async with asyncio.timeout(within):
            while len(self.took) < count:
                self._news.clear()
                if not await self.take():
                    self._feed.wake()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._news.wait(), 0.05)
        return self.told

    @property
    def told(self) -> list[Any]:
        """What was taken."""
        return [(each.event.job_id, each.event.seq) if isinstance(each, FeedEvent) else "gap" for each in self.took]


class Feeder:
    """A feed, and a worker of its own."""

    def __init__(self, feed: Feed, worker: str) -> None:
        self.feed = feed
        self.worker = worker

    async def follow(self, which: FeedFilter = ALL, *, tenant: str = "default", cursor: str | None = None) -> Follower:
        """Begin to follow."""
        news = asyncio.Event()
        return Follower(self.feed, await self.feed.follow(which, tenant=tenant, cursor=cursor, ready=news.set), news)


@contextlib.asynccontextmanager
async def feeding(stores: Stores, source: Any = None, ring: FeedRing | None = None) -> AsyncIterator[Feeder]:
    """A running feed, as a process would have it."""
    source = source or stores.source
    calls = Calls()
    calls.open()
    worker = await stores.register()
    feed = Feed(
        FeedStore(source), EventStore(source), calls=calls, meter=Metrics("0"), worker=lambda: worker, ring=ring
    )
    tasks = Tasks()
    tasks.spawn("feed", feed.run())
    try:
        yield Feeder(feed, worker)
    finally:
        await tasks.cancel()
        await calls.close()
        assert not tasks.deaths, tasks.deaths
