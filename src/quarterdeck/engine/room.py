"""RoomKeeper: lets no more jobs into a queue than its `max_depth`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

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

    Costs nothing for the others. What other processes let in since the count is not seen, so together they may pass the
    limit by what arrives within `KEEP`.
    """

    def __init__(self, store: QueueStore, *, calls: Calls) -> None:
        self._store = store
        self._calls = calls
        self._seen: frozenset[str] = frozenset()
        self._set_here: set[str] = set()
        self._rooms: Shared[Room | None] = Shared(self._count, KEEP)

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

    async def require(self, counts: Mapping[str, int]) -> None:
        """Lets so many jobs into each of these queues, all or none. Raises QueueFull, Unavailable."""
        bounded = [queue for queue in counts if queue in self._seen or queue in self._set_here]
        if not bounded:
            return
        rooms = await self._rooms.get(bounded)
        if self._full(rooms, counts) is not None:
            rooms |= await self._rooms.get(bounded, COUNT_AGAIN)
        full = self._full(rooms, counts)
        if full is not None:
            raise full
        for queue, room in rooms.items():
            if room is not None:
                room.left -= counts[queue]

    @staticmethod
    def _full(rooms: Mapping[str, Room | None], counts: Mapping[str, int]) -> QueueFull | None:
        for queue, room in rooms.items():
            if room is not None and room.left < counts[queue]:
                return QueueFull(queue, room.max_depth)
        return None

    async def _count(self, names: Sequence[str]) -> Mapping[str, Room | None]:
        rooms: dict[str, Room | None] = dict.fromkeys(names)
        return rooms | await self._calls.call(self._store.count_room(names))
