"""FleetStore: who is there to run jobs: kinds and live workers, to be looked at."""

from __future__ import annotations

import datetime as dt
from typing import Any

import asyncpg
import msgspec

from quarterdeck.store.pool import fetch


class KnownKind(msgspec.Struct, frozen=True):
    """A kind that some process registered; `defaults` has the options that are not the general ones."""

    name: str
    schema: dict[str, Any]
    defaults: dict[str, Any]
    first_seen: dt.datetime
    last_seen: dt.datetime
    live: int


class LiveWorker(msgspec.Struct, frozen=True):
    """A process whose lease is not over."""

    id: str
    host: str
    pid: int
    role: str
    queues: str | None
    kinds: list[str]
    slots: int
    running: int
    draining: bool
    version: str
    started_at: dt.datetime
    beat_at: dt.datetime
    lease_until: dt.datetime


class FleetStore:
    """Reads kinds and workers. Every method may raise what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def describe_kinds(self, after: str, limit: int) -> list[KnownKind]:
        """Up to `limit` known kinds, by name."""
        return [KnownKind(**dict(row)) for row in await fetch(self._pool, "describe_kinds", after, limit)]

    async def list_workers(self, after: tuple[dt.datetime, str], limit: int) -> list[LiveWorker]:
        """Up to `limit` live workers, the newest first: those that started before `after`, by moment and id."""
        return [LiveWorker(**dict(row)) for row in await fetch(self._pool, "list_workers", *after, limit)]

    async def idle_kinds(self) -> dict[str, float]:
        """The kinds that no live worker runs, and for how many seconds nobody has."""
        return {row["name"]: row["seconds"] for row in await fetch(self._pool, "idle_kinds")}
