"""Feed: what happens to many jobs, read once from the feed log for everybody in this process who follows it."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import msgspec

from quarterdeck.domain.errors import Unavailable
from quarterdeck.domain.feeds import FeedFilter, Gap, Key, Logged, Place, Position, complete, places, position_of
from quarterdeck.engine.calls import Calls
from quarterdeck.engine.feed_following import FeedFollowing
from quarterdeck.engine.feed_log import FeedLog
from quarterdeck.engine.feed_ring import FeedRing, Item
from quarterdeck.engine.meter import Meter
from quarterdeck.engine.tasks import Signal
from quarterdeck.engine.trouble import Trouble
from quarterdeck.store.events import EventStore
from quarterdeck.store.feed import FeedStore, Reading, Wanted

POLL = 0.5
"""Seconds between readings that nobody asks for; none without followers."""
WANTED = 60.0
"""Seconds for which a process wants the log from each time that it says so: last when its last follower left."""
RENEW = 20.0
"""Seconds after which it says so again."""
HELD = 2.0
"""Seconds that what was logged waits for a transaction that began earlier and is still in progress."""
RECENT = 2000
"""Transactions before the beginning that are looked at for a place where one can begin."""
PRUNE = 600.0
"""Seconds between two prunings, about."""
CATCH_UPS = 2
"""Followers who read the log for themselves at the same time."""

_BEGIN = Position(0, 0)


class Feed:
    """One a process. Has the log written while somebody here follows it, and reads it soon after each commit."""

    def __init__(
        self,
        store: FeedStore,
        events: EventStore,
        *,
        calls: Calls,
        meter: Meter,
        worker: Callable[[], str | None],
        ring: FeedRing | None = None,
    ) -> None:
        """`worker` tells this process's id among the workers, while it has one."""
        self.on_watch: Callable[[bool], None] = lambda _: None
        """Hears whether anybody follows."""
        self.ring = ring or FeedRing()
        self._few = asyncio.Semaphore(CATCH_UPS)
        self.past = FeedLog(store, events, self._for_caller)
        self._log = FeedLog(store, events)
        self._store = store
        self._calls = calls
        self._meter = meter
        self._worker = worker
        self._followers: dict[Key, set[FeedFollowing]] = {}
        self._lock = asyncio.Lock()
        self._somebody = Signal()
        self._sooner = Signal()
        self._renewed: tuple[str, float] | None = None
        # What is read when it ends: transactions that were in progress too long to wait for.
        self._late: set[int] = set()
        self._held: tuple[int, float] | None = None
        # A transaction of which some statements under way do not know, although somebody began to follow.
        self._doubt: tuple[int, dt.datetime] | None = None

    async def follow(
        self, which: FeedFilter, *, tenant: str, ready: Callable[[], None], cursor: str | None = None
    ) -> FeedFollowing:
        """Begins to follow jobs: from a cursor, or with whatever commits after this has returned.

        `ready` is called when there may be something to take. Raises InvalidListing, Unavailable.
        """
        key = which.key(tenant)
        start = None if cursor is None else position_of(cursor)
        self._calls.require_open()
        async with self._lock:  # what is read just now is read for those who were there
            whole = True if self._followers else await self._begin()
            following = FeedFollowing(self, key, ready, start)
            self._followers.setdefault(key, set()).add(following)
            self.on_watch(bool(self._followers))
            if not whole:
                self._tell([_gap(self.ring.through)])
        self._somebody.set()
        self._sooner.set()
        return following

    def leave(self, following: FeedFollowing) -> None:
        """Somebody has stopped to follow."""
        alike = self._followers.get(following.key, set())
        alike.discard(following)
        if not alike:
            self._followers.pop(following.key, None)
        if not self._followers:
            self._sooner.set()
        self.on_watch(bool(self._followers))

    @property
    def followed(self) -> int:
        """How many follow."""
        return sum(map(len, self._followers.values()))

    def wake(self) -> None:
        """Something was committed."""
        if self._followers:
            self._sooner.set()

    # Loops

    async def run(self) -> None:
        """The loop: reads, and keeps the log written."""
        trouble = Trouble("feed", self._meter, longest=1.0)
        pause = 0.0
        while True:
            try:
                if self._followers:
                    await self._sooner.wait(pause)
                    await self._renew(RENEW)
                    async with self._lock:
                        pause = await self._read(pause)
                else:
                    if self._renewed is not None:
                        await self._renew(0.0)
                        self._renewed = None
                    await self._somebody.wait()
                    pause = 0.0
                trouble.over()
            except Exception as error:  # noqa: BLE001 - sorted there
                await trouble.wait_out(error)

    async def prune(self) -> None:
        """The loop that forgets what is two hours old."""
        trouble = Trouble("feed pruner", self._meter, longest=60.0)
        while True:
            await asyncio.sleep(PRUNE * random.uniform(0.5, 1.5))
            try:
                await self._store.prune_feed()
                trouble.over()
            except Exception as error:  # noqa: BLE001 - sorted there
                await trouble.wait_out(error)  # somebody reads just now, perhaps: next time will do

    # Beginning, and going on

    async def _begin(self) -> bool:
        """Has the log written, and finds the place from which everything is in it. False where that may not be so."""
        wanted = await self._calls.call(self._want())
        if wanted is None:
            raise Unavailable("this process has no lease just now")
        found = await self.past.settle(wanted.xid)
        self._late = {xid for xid in found.open if xid <= wanted.xid}
        self._held = None
        self._doubt = None if found.statements else (wanted.xid, found.at)
        self.ring.restart(await self._cut(min((xid for xid in found.open if xid > wanted.xid), default=found.top)))
        return found.settled

    async def _cut(self, xid: int) -> Position:
        """The last place, not after a transaction, before which no job has a later event than after it."""
        rows = (await self.past.read(Position(max(1, xid - RECENT), 0))).rows
        count = complete(rows, xid)
        return Position(min(xid, rows[count].xid) if count < len(rows) else xid, 0)

    async def _want(self) -> Wanted | None:
        worker = self._worker()
        wanted = None if worker is None else await self._store.want_feed(worker, WANTED)
        if worker is not None and wanted is not None:
            self._renewed = (worker, time.monotonic())
        return wanted

    async def _renew(self, after: float) -> None:
        """Says again that the log is wanted, if that was long ago, or under another name."""
        if self._renewed is None or self._renewed[0] != self._worker() or time.monotonic() > self._renewed[1] + after:
            await self._want()  # where nobody wanted it meanwhile, the log says so itself

    async def _for_caller(self, statement: Coroutine[Any, Any, Any]) -> Any:
        async with self._few:
            return await self._calls.call(statement)

    # Reading

    async def _read(self, pause: float) -> float:
        """Reads what is new; returns for how long to wait for a wake-up."""
        ring, start = self.ring, self.ring.through
        reading = await self._log.read(start)
        over = self._late.difference(reading.open)
        late = await self._store.read_late_feed(over) if over else []
        rows, end, left = self._next(reading)
        items = [
            msgspec.structs.replace(item, logged=None, after=start) for item in await self._items(places(late, _BEGIN))
        ]
        items += await self._items(places(rows, start))
        self._late = (self._late - over) | left
        self._tell(items)
        if left:
            self._tell([_gap(end)])
        ring.through = end
        await self._settle_doubt()
        if reading.full:
            return 0.0
        return POLL if self._held is None else min(max(2 * pause, 0.01), POLL)

    def _next(self, reading: Reading) -> tuple[list[Logged], Position, set[int]]:
        """The rows to deliver now, where the next reading begins, and the transactions that it does not wait for."""
        rows, still = reading.rows, [xid for xid in reading.open if xid not in self._late]
        low = min(still, default=reading.top)
        count = complete(rows, min(low, rows[len(rows) // 2].xid) if reading.full and rows else low)
        if reading.full and rows and not count and rows[-1].xid < low:
            count = len(rows)
        waits = count < len(rows) and not (reading.full and count)
        if not waits:
            self._held = None
        elif self._held is None or self._held[0] != low:
            self._held = (low, time.monotonic())
        elif time.monotonic() > self._held[1] + HELD:
            self._held = None
            end = Position(rows[-1].xid + 1 if reading.full else reading.top, 0)
            return rows, end, {xid for xid in still if xid < end.xid}
        if count < len(rows):
            return rows[:count], Position(min(low, rows[count].xid), 0), set()
        return rows, Position(rows[-1].xid + 1 if reading.full and rows else low, 0), set()

    async def _items(self, came: list[Place]) -> list[Item]:
        """What somebody here wants of it. Waits at a hole until everybody knows that the log is wanted again."""
        wanted = [
            place
            for place in came
            if place.entry is None or not self._followers.keys().isdisjoint(place.entry.routes())
        ]
        for place in wanted:
            if place.entry is None:
                found = await self._log.settle(place.logged.xid)
                if not found.statements:
                    self._doubt = (place.logged.xid, found.at)
        return [
            Item(None if place.entry is None else place.entry.routes(), told, place.logged, place.after)
            for place, told in await self._log.tell(wanted)
        ]

    async def _settle_doubt(self) -> None:
        if self._doubt is not None and (await self._store.feed_settled(*self._doubt)).statements:
            self._doubt = None
            self._tell([_gap(self.ring.through)])

    def _tell(self, items: Iterable[Item]) -> None:
        woken: set[FeedFollowing] = set()
        for item in items:
            for key in self._followers if item.keys is None else item.keys & self._followers.keys():
                for following in self._followers[key]:
                    following.wake(self.ring.end)
                    woken.add(following)
            self.ring.append(item)
        for following in woken:
            following.ready()


def _gap(at: Position) -> Item:
    return Item(None, Gap(at.cursor), None, at)
