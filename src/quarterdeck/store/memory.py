"""Memory: a shelf inside the process."""

from __future__ import annotations

from collections import OrderedDict

from quarterdeck.store.shelf import Gauges, Tally, Version

MEMORY = 32 * 1024 * 1024
"""Bytes that it takes, at most."""
OVERHEAD = 512
"""Bytes that an entry takes beside its value, about."""


class Memory:
    """The results that were asked for last, up to a number of bytes."""

    def __init__(self, tally: Tally, limit: int = MEMORY) -> None:
        self._tally = tally
        self._limit = limit
        self._size = 0
        self._kept: OrderedDict[Version, bytes] = OrderedDict()

    async def get(self, version: Version) -> bytes | None:
        """The result, if it is there."""
        found = self._kept.get(version)
        if found is not None:
            self._kept.move_to_end(version)
        self._tally.cache_read("memory", "miss" if found is None else "hit")
        return found

    def put(self, version: Version, result: bytes) -> None:
        """Keeps a result, in place of those that nobody has asked for the longest."""
        if len(result) + OVERHEAD > self._limit:
            self._tally.cache_written("memory", "refused")
            return
        self._forget(version)
        self._kept[version] = result
        self._size += len(result) + OVERHEAD
        while self._size > self._limit:
            self._forget(next(iter(self._kept)))
        self._tally.cache_written("memory", "stored")

    def _forget(self, version: Version) -> None:
        gone = self._kept.pop(version, None)
        if gone is not None:
            self._size -= len(gone) + OVERHEAD

    def gauges(self) -> Gauges:
        """How much it holds."""
        return {"cache_bytes": {(): self._size}}

    async def close(self) -> None:
        """Forgets everything."""
        self._kept.clear()
        self._size = 0
