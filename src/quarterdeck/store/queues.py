"""QueueStore: queues as callers know them: their names, settings and depth."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import msgspec

from quarterdeck.domain.queue import DEFAULT_PER_KEY, Depth, QueuePatch, QueueSettings
from quarterdeck.store.pool import fetch


class Room(msgspec.Struct):
    """How many more jobs a queue may take before it has `max_depth`; `left` is taken down by whoever lets jobs in."""

    max_depth: int
    left: int


class QueueStore:
    """The statements behind queues. Every method may raise what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def name_queues(self, after: str, limit: int) -> list[str]:
        """Up to `limit` names of queues that were set or have unfinished jobs, in order."""
        return [row["name"] for row in await fetch(self._pool, "name_queues", after, limit)]

    async def get_queues(self, names: Sequence[str]) -> dict[str, QueueSettings]:
        """Settings of those that were ever set."""
        return {row["name"]: _settings(row) for row in await fetch(self._pool, "get_queues", names)}

    async def update_queue(self, name: str, patch: QueuePatch) -> QueueSettings:
        """Changes what `patch` gives, and returns the settings as they are now; from now on the queue is known."""
        (row,) = await fetch(
            self._pool,
            "update_queue",
            name,
            patch.paused is not msgspec.UNSET,
            patch.paused is True,
            patch.max_depth is not msgspec.UNSET,
            None if patch.max_depth is msgspec.UNSET else patch.max_depth,
        )
        return _settings(row)

    async def count_depths(self, names: Sequence[str]) -> dict[str, Depth]:
        """The depth of each of these queues, whether anybody has heard of it or not, all at one moment."""
        return {row["name"]: _depth(row) for row in await fetch(self._pool, "count_depths", names)}

    async def count_finished(self, names: Sequence[str], seconds: float) -> dict[str, int]:
        """How many jobs of these queues ended in the last `seconds`; queues without any are left out."""
        return {row["queue"]: row["jobs"] for row in await fetch(self._pool, "count_finished", names, seconds)}

    async def count_room(self, names: Sequence[str]) -> dict[str, Room]:
        """How many more jobs each of these queues may take; those without a `max_depth` are left out."""
        rows = await fetch(self._pool, "count_room", names)
        return {row["name"]: Room(row["max_depth"], row["room"]) for row in rows}


def _settings(row: asyncpg.Record) -> QueueSettings:
    values = dict(row)
    del values["name"]
    if values["concurrency_per_key"] is None:
        values["concurrency_per_key"] = DEFAULT_PER_KEY
    return QueueSettings(**values)


def _depth(row: asyncpg.Record) -> Depth:
    values = dict(row)
    del values["name"]
    age = values["oldest_available_age"]
    # A job may be due by the clock of a transaction that began after this one.
    values["oldest_available_age"] = None if age is None else max(0.0, age)
    return Depth(**values)
