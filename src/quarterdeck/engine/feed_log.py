"""FeedLog: readings of the feed log, and the events that it speaks of."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from quarterdeck.domain.events import Event, events_after
from quarterdeck.domain.feeds import FeedEvent, Gap, Place, Position
from quarterdeck.store.events import EventStore
from quarterdeck.store.feed import FeedStore, Reading, Settled

T = TypeVar("T")
Told = FeedEvent | Gap

ROWS = 64
"""Rows of the log that are read at first, and four times as many as long as there are more."""
MAX_ROWS = 4096
"""Rows that are looked at together, to tell each job's events in their order."""
CATCH_UP_ROWS = 512
"""The same for somebody who is behind and reads for itself: only half of it is used at once."""
MAX_ENTRIES = 20_000
"""Entries in them, about."""
MAX_JOBS = 250
"""Jobs whose events one statement reads."""
SETTLE = 2.0
"""Seconds to wait for statements that do not know yet that somebody wants the log."""


class FeedLog:
    """What readings of the log have in common. Raises what `run`, which runs the statements, raises."""

    def __init__(
        self,
        store: FeedStore,
        events: EventStore,
        run: Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]] | None = None,
    ) -> None:
        self._store = store
        self._events = events
        self._run = run

    async def run(self, statement: Coroutine[Any, Any, T]) -> T:
        """What a statement returns."""
        return await (statement if self._run is None else self._run(statement))

    async def read(self, since: Position, before: Position | None = None) -> Reading:
        """What was logged from a place on. Of a full reading the second half only shows what has to wait for it."""
        limit, most = (ROWS, MAX_ROWS) if before is None else (CATCH_UP_ROWS, CATCH_UP_ROWS)
        while True:
            bounds = (since.xid, limit) if before is None else (since.xid, limit, before.xid)
            reading = await self.run(self._store.read_feed(*bounds))
            entries = sum(len(row.entries) for row in reading.rows)
            if not reading.full or limit >= most or entries >= MAX_ENTRIES:
                return reading
            limit *= 4

    async def settle(self, xid: int) -> Settled:
        """Waits until whatever commits later knows what a transaction has committed, at most SETTLE seconds."""
        deadline = time.monotonic() + SETTLE
        pause, since = 0.01, None
        while True:
            found = await self.run(self._store.feed_settled(xid, since))
            if found.settled or time.monotonic() + pause > deadline:
                return found
            since = found.at
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.1)

    async def tell(self, places: Sequence[Place]) -> list[tuple[Place, Told]]:
        """The places with their events, or gaps where there are none any more: a hole, or a job that was deleted."""
        wanted: dict[uuid.UUID, set[int]] = {}
        for place in places:
            if place.entry is not None:
                wanted.setdefault(place.entry.job_id, set()).add(place.seq)
        found = await self._read(wanted)
        told: list[tuple[Place, Told]] = []
        for place in places:
            cursor = place.after.cursor
            event = None if place.entry is None else found.get((place.entry.job_id, place.seq))
            if event is not None:
                told.append((place, FeedEvent(event, cursor)))
            elif place.entry is None or place.seq == max(wanted[place.entry.job_id]):
                told.append((place, Gap(cursor)))
        return told

    async def _read(self, wanted: dict[uuid.UUID, set[int]]) -> dict[tuple[uuid.UUID, int], Event]:
        found: dict[tuple[uuid.UUID, int], Event] = {}
        afters = {job_id: min(seqs) - 1 for job_id, seqs in wanted.items()}
        while afters:
            group = {job_id: afters.pop(job_id) for job_id in list(afters)[:MAX_JOBS]}
            pasts = await self.run(self._events.read_events(group))
            for job_id, past in pasts.items():
                events = events_after(past, group[job_id])
                found |= {(job_id, event.seq): event for event in events if event.seq in wanted[job_id]}
                if events and events[-1].seq < max(wanted[job_id]):
                    afters[job_id] = events[-1].seq  # a reading has only so many of what a handler wrote
        return found
