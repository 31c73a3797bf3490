"""Cache: results of ended jobs, where they can be had sooner than from the database. Never an authority."""

from __future__ import annotations

import datetime as dt
import secrets
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

from quarterdeck.config import parse_servers
from quarterdeck.store.pool import Pool, fetch

MEMORY = 32 * 1024 * 1024
"""Bytes that a cache inside the process takes, at most."""
OVERHEAD = 512
"""Bytes that an entry takes beside its value, about."""
SECRET_SIZE = 32

ReadOutcome = Literal["hit", "miss", "poisoned", "error", "open", "busy"]
WriteOutcome = Literal["stored", "refused", "error", "open", "busy"]
Place = Literal["memory", "memcached"]
Gauges = Mapping[str, Mapping[tuple[str, ...], float]]


class Version(msgspec.Struct, frozen=True):
    """One end of one job: what belongs to it never changes.

    A retry by hand makes another `generation`. The moment is there for copies of a database, and for one that was set
    back to an earlier state: there the same job may end with the same numbers once more, but not in the same
    microsecond.
    """

    tenant: str
    job_id: uuid.UUID
    generation: int
    seq: int
    finalized_at: dt.datetime


class Tally(Protocol):
    """Who counts what the cache does. Must not raise."""

    def cache_read(self, place: Place, outcome: ReadOutcome) -> None:
        """A result was looked for."""

    def cache_written(self, place: Place, outcome: WriteOutcome) -> None:
        """A result was offered."""


class Shelf(Protocol):
    """Keeps results by versions. No method raises, or takes longer than 30 ms; who gets nothing asks the database."""

    async def get(self, version: Version) -> bytes | None:
        """The result of that version, if it is there."""

    def put(self, version: Version, result: bytes) -> None:
        """Offers a result. Returns at once; whether it is kept is open."""

    def gauges(self) -> Gauges:
        """Values of metrics, by name and labels."""

    async def close(self) -> None:
        """Lets go of connections; nothing is kept from then on."""


class Memory:
    """A shelf inside the process: the results that were asked for last, up to a number of bytes."""

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


class Cache:
    """A shelf in the process and, where there is one, another that processes share. Versions never change: they agree.

    Its methods keep the promises of a shelf.
    """

    def __init__(self, near: Shelf, far: Shelf | None = None) -> None:
        self._near = near
        self._far = far

    async def get(self, version: Version) -> bytes | None:
        """The result of that version, from wherever it is."""
        result = await self._near.get(version)
        if result is None and self._far is not None:
            result = await self._far.get(version)
            if result is not None:
                self._near.put(version, result)
        return result

    def put(self, version: Version, result: bytes) -> None:
        """Offers a result."""
        self._near.put(version, result)
        if self._far is not None:
            self._far.put(version, result)

    def gauges(self) -> Gauges:
        """Values of metrics, by name and labels."""
        return {**self._near.gauges(), **(self._far.gauges() if self._far is not None else {})}

    async def close(self) -> None:
        """Lets go of everything."""
        await self._near.close()
        if self._far is not None:
            await self._far.close()


async def open_cache(setting: str | None, pool: Pool, tally: Tally) -> Cache:
    """The cache that the setting `memcached` asks for. Asks the database for the secret, and no memcached for anything.

    Raises what asyncpg raises, and ValueError for a setting that is none.
    """
    servers = parse_servers(setting)
    memory = Memory(tally)
    if not servers:
        return Cache(memory)
    from quarterdeck.store.memcached import Memcached  # noqa: PLC0415 - the client is loaded where it is used

    rows = await fetch(pool, "get_secret", "cache")
    # Without a row somebody has tampered with the table. A secret of this process's own is as safe, and not shared.
    secret = rows[0]["value"] if rows else secrets.token_bytes(SECRET_SIZE)
    return Cache(memory, Memcached(servers, secret, tally))
