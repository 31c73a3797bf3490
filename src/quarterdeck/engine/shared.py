"""Shared: one reading of the database for everybody who asks at the same time, kept for a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class _Flight(msgspec.Struct, eq=False):
    """A reading under way, or the next one: what it reads, and when it was sent."""

    names: set[str]
    task: asyncio.Task[Mapping[str, object]] | None = None
    sent: float | None = None


class Shared(Generic[T]):
    """Answers by name from readings that are at most `keep` seconds old when they are given out.

    One reading is under way at a time, however long it takes and whether anybody still waits for it: a slow one never
    takes more than one connection. Who asks for what it does not hold joins the next one, with everybody else who
    came meanwhile.
    """

    def __init__(self, read: Callable[[list[str]], Awaitable[Mapping[str, T]]], keep: float) -> None:
        """`read` answers for every name it is given."""
        self._read = read
        self._keep = keep
        self._kept: dict[str, tuple[float, T]] = {}
        self._now: _Flight | None = None
        self._next: _Flight | None = None

    async def get(self, names: Iterable[str], keep: float | None = None) -> dict[str, T]:
        """What was read of each name at most `keep` seconds ago, or is read now. Raises what the reading raises."""
        since = time.monotonic() - (self._keep if keep is None else keep)
        found: dict[str, T] = {}
        missing = set()
        for name in names:
            kept = self._kept.get(name)
            if kept is not None and kept[0] >= since:
                found[name] = kept[1]
            else:
                missing.add(name)
        if missing:
            read = await self._join(missing, since)
            found |= {name: read[name] for name in missing}
        return found

    def forget(self, name: str) -> None:
        """What was read of `name`, or is being read, holds no more: who asks from now on gets a new reading."""
        self._kept.pop(name, None)
        if self._now is not None:
            self._now.names.discard(name)

    async def _join(self, names: set[str], since: float) -> Mapping[str, T]:
        flight = self._now
        if flight is None or flight.sent is None or flight.sent < since or not names <= flight.names:
            if self._next is None:
                self._next = _Flight(set())
                self._next.task = asyncio.create_task(self._fly(self._next, flight))
                self._next.task.add_done_callback(_look_at)
            flight = self._next
            flight.names |= names
        return await asyncio.shield(flight.task)  # type: ignore[arg-type]

    async def _fly(self, flight: _Flight, before: _Flight | None) -> Mapping[str, T]:
        if before is not None and before.task is not None:
            await asyncio.wait([before.task])
        self._now, self._next = flight, None
        flight.sent = time.monotonic()
        try:
            read = await self._read(sorted(flight.names))
        finally:
            self._now = None
        self._kept = {name: kept for name, kept in self._kept.items() if kept[0] >= flight.sent - self._keep}
        self._kept |= {name: (flight.sent, read[name]) for name in flight.names}
        return read


def _look_at(task: asyncio.Task[Mapping[str, object]]) -> None:
    if not task.cancelled():
        task.exception()  # every waiter has it; nobody waiting is no reason to complain
