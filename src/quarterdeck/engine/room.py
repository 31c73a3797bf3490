"""RoomKeeper: lets no more jobs into a queue than its `max_depth`."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from quarterdeck.domain.errors import QueueFull
from quarterdeck.engine.calls import Calls
from quarterdeck.engine.shared import Shared
from quarterdeck.store.queues import QueueStore, Room

KEEP = 0.4
"""Seconds that a count of a queue's room is used for."""
COUNT_AGAIN = 0.1
"""Seconds after which a queue that seems full is counted again: jobs end, too."""


class RoomKeeper:
    """Knows which queues have a `max_depth`, and how much room they had at the last count, less what was let in since.

    Costs nothing for other queues. What other processes let in since the count is not seen, so that together they may
    pass the limit by what arrives within `KEEP`.
    """

    def __init__(self, store: QueueStore, *, calls: Calls) -> None:
        self._store = store
        self._calls = calls
        self._seen: frozenset[str] = frozenset()
        self._set_here: set[str] = set()
        self._rooms: Shared[Room | None] = Shared(self._count, KEEP)
        self._under_way: Counter[str] = Counter()
        self._let_in: Counter[str] = Counter()

    def see(self, queues: Iterable[str]) -> None:
        """These queues have a `max_depth`, and no others: what the tick saw."""
        self._seen = frozenset(queues)

    def bind(self, queue: str, max_depth: int | None) -> None:
        """The `max_depth` of a queue was changed in this process."""
        # Kept apart: a look of the tick may have begun before that.
        if max_depth is None:
            self._set_here.discard(queue)
        else:
            self._set_here.add(queue)
        self._rooms.forget(queue)

    @asynccontextmanager
    async def reserve(self, counts: Mapping[str, int]) -> AsyncIterator[None]:
        """Room for so many jobs in each of these queues, while they are stored; in all of them or none.

        Raises QueueFull, Unavailable.
        """
        wanted = {queue: jobs for queue, jobs in counts.items() if queue in self._seen or queue in self._set_here}
        if not wanted:
            yield
            return
        await self._let_in_or_refuse(wanted)
        self._under_way.update(wanted)
        try:
            yield
        finally:
            self._under_way.subtract(wanted)

    async def _let_in_or_refuse(self, wanted: Mapping[str, int]) -> None:
        rooms = await self._calls.call(self._rooms.get(wanted))
        if _full(rooms, wanted) is not None:
            rooms = await self._calls.call(self._rooms.get(wanted, COUNT_AGAIN))
        full = _full(rooms, wanted)
        if full is not None:
            raise full
        for queue, room in rooms.items():
            if room is not None:
                room.left -= wanted[queue]
        self._let_in.update(wanted)

    async def _count(self, names: Sequence[str]) -> Mapping[str, Room | None]:
        under_way, let_in = self._under_way.copy(), self._let_in.copy()
        found = await self._store.count_room(names)
        for name, room in found.items():
            # What was being stored when the count began, and what came since, is not in it, or may not be.
            room.left -= under_way[name] + self._let_in[name] - let_in[name]
        return dict.fromkeys(names) | found


def _full(rooms: Mapping[str, Room | None], wanted: Mapping[str, int]) -> QueueFull | None:
    for queue, room in rooms.items():
        if room is not None and room.left < wanted[queue]:
            return QueueFull(queue, room.max_depth)
    return None
