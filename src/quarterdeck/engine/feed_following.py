"""FeedFollowing: somebody's place in a feed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Protocol, Self

from quarterdeck.domain.events import merged
from quarterdeck.domain.feeds import FeedEvent, Gap, Key, Place, Position, complete, places, position_of
from quarterdeck.engine.feed_log import FeedLog, Told
from quarterdeck.engine.feed_ring import FeedRing
from quarterdeck.store.feed import Reading

MERGED_OVER = 32
"""Events that somebody may be behind before runs of progress become one event."""
BATCH = 1000
"""Events, and few more, that are read at once for somebody who is behind."""
READINGS = 4
"""Readings of the log in one take."""


class Source(Protocol):
    """What a following needs of its feed."""

    ring: FeedRing
    past: FeedLog

    def leave(self, following: FeedFollowing) -> None:
        """It has ended."""


class FeedFollowing:
    """Takes events from the ring that all share; who is behind it reads the log, up to where the ring goes on."""

    def __init__(self, source: Source, key: Key, ready: Callable[[], None], start: Position | None) -> None:
        self.key = key
        self.ready = ready
        self.pending = start is not None
        """Whether there may be something to take."""
        self._source = source
        self._start = start or source.ring.through
        self._taken = self._start
        self._index = source.ring.end
        # Who is behind: from where and up to where the log is to be read, and what was found there and not taken yet.
        self._read = self._start
        self._until = None if start is None else source.ring.through
        self._found: deque[Told] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops to follow."""
        self._source.leave(self)

    @property
    def cursor(self) -> str:
        """The place after all that was taken."""
        return (self._taken if self.pending else max(self._taken, self._source.ring.through)).cursor

    def wake(self, index: int) -> None:
        """The item of the ring at `index`, which is about to be there, is the next, where there was none before."""
        if not self.pending:
            self._taken, self._index, self.pending = max(self._taken, self._source.ring.through), index, True

    async def take(self, most: int = 100) -> list[Told]:
        """The next `most` events and gaps, none where there are none yet; raises Unavailable.

        Who is far behind gets one progress for several.
        """
        for _ in range(READINGS):
            if self._found or not self.pending:
                break
            if self._until is not None:
                await self._catch_up(self._until)
            elif self._index < self._source.ring.first:
                self._fall_behind()
            else:
                return self._look(most)
        taken = [self._found.popleft() for _ in range(min(most, len(self._found)))]
        if taken:
            self._taken = position_of(taken[-1].cursor)
        return taken

    def _look(self, most: int) -> list[Told]:
        """The next items of the ring."""
        taken: list[Told] = []
        for item in self._source.ring.since(self._index):
            if item.concerns(self.key, self._start):
                if len(taken) == most:
                    break
                taken.append(item.told)
                self._taken = item.after
            self._index += 1
        else:
            self.pending = False
        return _fewer(taken)

    def _fall_behind(self) -> None:
        ring = self._source.ring
        if self._index <= ring.unlogged:
            self._found.append(Gap(self._taken.cursor))
        self._read, self._until, self._index = self._taken, ring.through, ring.end

    async def _catch_up(self, until: Position) -> None:
        """Reads the next part of the log."""
        log = self._source.past
        reading = await log.read(self._read, max(self._read, until))
        if not reading.kept or self._read.xid > reading.top:
            self._lose(until)
            return
        wanted, end = self._wanted(reading, until)
        for place in wanted:
            if place.entry is None:
                await log.settle(place.logged.xid)
        found = _fewer([told for _, told in await log.tell(wanted)])
        self._found.extend(found)
        self._read = max(self._read, end)
        if self._read >= until:
            self._until = None
        if not found:
            self._taken = self._read

    def _wanted(self, reading: Reading, until: Position) -> tuple[list[Place], Position]:
        """The next BATCH places that are wanted, and the place after them."""
        rows = reading.rows
        if reading.full and rows:
            rows = rows[: complete(rows, rows[len(rows) // 2].xid) or len(rows)]
            until = Position(rows[-1].xid + 1, 0)
        wanted: list[Place] = []
        last = self._read
        for place in places(rows, self._read):
            last = max(last, place.logged)
            if place.entry is None or self.key in place.entry.routes():
                wanted.append(place)
            if len(wanted) >= BATCH and place.after == last:
                return wanted, last
        return wanted, until

    def _lose(self, until: Position) -> None:
        self._found.append(Gap(until.cursor))
        self._read = self._start = until
        self._until = None


def _fewer(told: list[Told]) -> list[Told]:
    return list(_merged(told)) if len(told) > MERGED_OVER else told


def _merged(told: Iterable[Told]) -> Iterator[Told]:
    for job_id, group in groupby(told, key=lambda each: each.event.job_id if isinstance(each, FeedEvent) else None):
        run = list(group)
        if job_id is None:
            yield from run
            continue
        events = [each for each in run if isinstance(each, FeedEvent)]
        cursors = {each.event.seq: each.cursor for each in events}
        for event in merged(each.event for each in events):
            yield FeedEvent(event, cursors[event.seq])
