"""UpkeepStore: what any process does for all: due, late and orphaned jobs, partitions."""

from __future__ import annotations

import datetime as dt
import uuid

import asyncpg
import msgspec

from quarterdeck.store.attempts import Written, written
from quarterdeck.store.pool import fetch


class Look(msgspec.Struct, frozen=True):
    """What one tick saw: the database's clock, and what there is to do."""

    now: dt.datetime
    next_due: dt.datetime | None
    expired: bool
    lapsed: bool
    suspects: bool
    cancelling: list[uuid.UUID]
    queues: list[str]
    bounded: list[str]


class KeptHistory(msgspec.Struct, frozen=True):
    """From when there can be jobs at all, and the first day (UTC) whose history is kept."""

    installed: dt.datetime
    oldest: dt.datetime | None


class LostWorker(msgspec.Struct, frozen=True):
    """A worker whose lease was over."""

    id: str
    host: str
    pid: int


class UpkeepStore:
    """The statements behind the tick and the rescuer. Every method may raise what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def tick(self, worker: str) -> Look:
        """Looks at everything at once; writes nothing."""
        (row,) = await fetch(self._pool, "tick", worker)
        return Look(**dict(row))

    async def promote_jobs(self, limit: int) -> list[Written]:
        """Makes up to `limit` due jobs available."""
        return [written(row) for row in await fetch(self._pool, "promote_jobs", limit)]

    async def expire_jobs(self, limit: int) -> list[Written]:
        """Discards up to `limit` jobs that were not started in time."""
        return [written(row) for row in await fetch(self._pool, "expire_jobs", limit)]

    async def bury_workers(self) -> list[LostWorker]:
        """Removes workers whose lease is over; from then on their jobs are orphans."""
        return [LostWorker(row["id"], row["host"], row["pid"]) for row in await fetch(self._pool, "bury_workers")]

    async def rescue_jobs(self, limit: int) -> list[Written]:
        """Takes back up to `limit` orphans."""
        return [written(row) for row in await fetch(self._pool, "rescue_jobs", limit)]

    async def kept_history(self) -> KeptHistory:
        """Which days' jobs can be found."""
        (row,) = await fetch(self._pool, "kept_history")
        return KeptHistory(**dict(row))

    async def ensure_partitions(self) -> int:
        """Makes missing partitions of the coming 14 days; returns how many tables it made."""
        (row,) = await fetch(self._pool, "ensure_partitions")
        made: int = row[0]
        return made
