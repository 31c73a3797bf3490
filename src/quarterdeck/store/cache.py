"""Cache: results of ended jobs, where they can be had sooner than from the database. Never an authority."""

from __future__ import annotations

import secrets

from quarterdeck.config import parse_servers
from quarterdeck.store.memory import Memory
from quarterdeck.store.pool import Pool, fetch
from quarterdeck.store.shelf import Gauges, Shelf, Tally, Version

SECRET_SIZE = 32


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
