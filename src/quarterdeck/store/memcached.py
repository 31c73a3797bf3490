"""Memcached: the shelf that several processes share."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from functools import partial
from typing import cast

from quarterdeck.store.memcached_server import Client, MemcachedServer, Unusable
from quarterdeck.store.sealer import Sealer
from quarterdeck.store.shelf import Gauges, ReadOutcome, Tally, Version, WriteOutcome

KEEP = 3600
"""Seconds after which memcached forgets a value, also that of a job that was deleted meanwhile."""
MAX_WRITES = 16
"""Values that wait to be written at the same time, at most."""


class Memcached:
    """Results on one or several servers, each of which has its share of the keys.

    Whose share a key is in is settled by rendezvous hashing (Thaler and Ravishankar, 1998): every process comes to the
    same answer, and a server that comes or goes moves no keys but its own. While one is down, its keys are misses.
    """

    def __init__(self, servers: Sequence[tuple[str, int]], secret: bytes, tally: Tally) -> None:
        self._servers = [MemcachedServer(host, port) for host, port in dict.fromkeys(servers)]
        self._sealer = Sealer(secret)
        self._tally = tally
        self._reads: dict[bytes, asyncio.Task[bytes | None]] = {}
        self._writes: set[asyncio.Task[None]] = set()
        self._closed = False

    async def get(self, version: Version) -> bytes | None:
        """The result, if it is there. Who asks for the same at the same time shares one look."""
        if self._closed:
            return None
        key = self._sealer.key(version)
        reading = self._reads.get(key)
        if reading is None:
            reading = self._reads[key] = asyncio.create_task(self._read(key), name="quarterdeck-cache-read")
            reading.add_done_callback(lambda _: self._reads.pop(key, None))
        return await asyncio.shield(reading)

    def put(self, version: Version, result: bytes) -> None:
        """Stores a result, in the background."""
        if self._closed or len(self._writes) >= MAX_WRITES:
            self._tally.cache_written("memcached", "busy")
            return
        writing = asyncio.create_task(self._write(version, result), name="quarterdeck-cache-write")
        self._writes.add(writing)
        writing.add_done_callback(self._writes.discard)

    def gauges(self) -> Gauges:
        """Which servers are left alone."""
        return {"cache_server_left_alone": {(each.name,): float(each.breaker.open) for each in self._servers}}

    async def close(self) -> None:
        """Waits for what is under way, which takes no longer than its limits, and ends the connections."""
        self._closed = True
        if under_way := [*self._reads.values(), *self._writes]:
            await asyncio.wait(under_way)
        for server in self._servers:
            await server.close()

    def server_of(self, key: bytes) -> MemcachedServer:
        """The server in whose share a key is."""
        return max(self._servers, key=lambda each: hashlib.sha256(each.name.encode() + b" " + key).digest())

    async def _read(self, key: bytes) -> bytes | None:
        try:
            result = await self.server_of(key).run(partial(self._look, key))
        except Unusable as failure:
            self._tally.cache_read("memcached", cast("ReadOutcome", failure.outcome))
            return None
        self._tally.cache_read("memcached", "miss" if result is None else "hit")
        return result

    async def _look(self, key: bytes, client: Client) -> bytes | None:
        sealed = await client.get(key)
        if sealed is None:
            return None
        result = self._sealer.open(key, sealed)
        if result is None:
            raise Unusable("poisoned")
        return result

    async def _write(self, version: Version, result: bytes) -> None:
        key = self._sealer.key(version)
        server = self.server_of(key)
        if server.breaker.refuses:  # before a signature is made that nobody will see
            self._tally.cache_written("memcached", "open")
            return
        sealed = self._sealer.seal(key, result)
        if sealed is None:
            self._tally.cache_written("memcached", "refused")
            return
        try:
            await server.run(lambda client: client.store(key, sealed, KEEP))
        except Unusable as failure:
            self._tally.cache_written("memcached", cast("WriteOutcome", failure.outcome))
        else:
            self._tally.cache_written("memcached", "stored")
