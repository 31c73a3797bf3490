"""FeedRing: the latest events that somebody here follows, once for everybody."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec

from quarterdeck.domain.feeds import FeedEvent, Gap, Key, Position

MAX_EVENTS = 10_000
MAX_BYTES = 8 * 2**20
_OVERHEAD = 500
"""Bytes of an event without its values, about."""


class Item(msgspec.Struct, frozen=True):
    """An event for those who follow one of `keys`, or for all; where it stands in the log, if in its order."""

    keys: frozenset[Key] | None
    told: FeedEvent | Gap
    logged: Position | None
    after: Position

    def concerns(self, key: Key, start: Position) -> bool:
        """Whether somebody who follows `key` from a place on is to have it."""
        return (self.keys is None or key in self.keys) and (self.logged is None or self.logged > start)


class FeedRing:
    """Bounded by count and bytes. Everybody has an index, which stays with its item."""

    def __init__(self, most: int = MAX_EVENTS, most_bytes: int = MAX_BYTES) -> None:
        self.first = 0
        """The index of the first item that is kept."""
        self.through = Position(0, 0)
        """The place in the log up to which everything is here, or has been."""
        self.unlogged = -1
        """The index of the last item that cannot be found again in the log."""
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._items: deque[tuple[Item, int]] = deque()

    @property
    def end(self) -> int:
        """The index of the next item."""
        return self.first + len(self._items)

    def restart(self, at: Position) -> None:
        """Forgets everything and begins at a place."""
        self.first = self.end
        self._items.clear()
        self._bytes = 0
        self.through = at

    def append(self, item: Item) -> None:
        """Keeps another item, and forgets the oldest for it."""
        size = _size(item.told)
        if item.logged is None:
            self.unlogged = self.end
        self._items.append((item, size))
        self._bytes += size
        while len(self._items) > self._most or self._bytes > self._most_bytes:
            self._bytes -= self._items.popleft()[1]
            self.first += 1

    def since(self, index: int) -> Iterator[Item]:
        """The items from an index on, which must be kept."""
        for number in range(index - self.first, len(self._items)):
            yield self._items[number][0]


def _size(told: FeedEvent | Gap) -> int:
    if isinstance(told, Gap):
        return _OVERHEAD
    data = told.event.data
    values = [data] if isinstance(data, msgspec.Raw) else data.values()
    return _OVERHEAD + sum(len(bytes(value)) for value in values if isinstance(value, msgspec.Raw))
