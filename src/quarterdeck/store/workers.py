"""WorkerStore: this process's row and its lease. Runs on the heartbeat's own connection."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import asyncpg
import msgspec

from quarterdeck.store.queries import SQL


class WorkerIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Who a process is: a fresh `id` at every start and after every lost lease."""

    id: str
    host: str
    pid: int
    role: str
    queues: str | None
    kinds: Sequence[str]
    slots: int
    version: str


class WorkerStore:
    """Register, beat, deregister. Every method may raise what asyncpg raises."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def register_worker(self, identity: WorkerIdentity, lease: float) -> dt.datetime:
        """Begins a lease of `lease` seconds; returns the database's clock."""
        return await self._connection.fetchval(  # type: ignore[no-any-return]
            SQL["register_worker"],
            identity.id,
            identity.host,
            identity.pid,
            identity.role,
            identity.queues,
            list(identity.kinds),
            identity.slots,
            identity.version,
            lease,
        )

    async def beat_worker(self, worker: str, lease: float, *, running: int, draining: bool) -> dt.datetime | None:
        """Renews the lease and returns the database's clock; None where the lease was over: then it is lost."""
        return await self._connection.fetchval(  # type: ignore[no-any-return]
            SQL["beat_worker"], worker, lease, running, draining
        )

    async def deregister_worker(self, worker: str) -> None:
        """Ends the lease."""
        await self._connection.execute(SQL["deregister_worker"], worker)
