"""Results: large results of ended jobs, from the cache or from the database."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from quarterdeck.engine.grouped import Grouped
from quarterdeck.engine.meter import Meter
from quarterdeck.store.cache import Cache
from quarterdeck.store.jobs import JobStore
from quarterdeck.store.shelf import Version

LARGE_FROM = 48 * 1024
"""Bytes, as PostgreSQL stores them, beyond which a result is not read with its job: from there on the cache pays, as
`python -m benchmarks.cache` measures it."""
MAX_GROUP = 16
"""Results that are read at the same time; each may have a mebibyte."""


class Results:
    """Fetches what was left out of a job that was just looked up.

    The version is the job's own, as the database told it a moment ago, and what belongs to it never changes. So it does
    not matter how old the cache's copy is, or what happened to the job since: the answer is what it was at that look.
    """

    def __init__(self, jobs: JobStore, cache: Cache, meter: Meter) -> None:
        self._jobs = jobs
        self._cache = cache
        self._stored: Grouped[Version, bytes] = Grouped("get_results", self._read, most=MAX_GROUP, meter=meter)

    async def of(self, version: Version) -> msgspec.Raw | None:
        """The result of that version; None where the job has another one by now. Raises Unavailable."""
        result = await self._cache.get(version)
        if result is None:
            result = await self._stored.get(version)
            if result is None:
                return None
            self._cache.put(version, result)
        return msgspec.Raw(result)

    async def run(self) -> None:
        """The loop."""
        await self._stored.run()

    async def _read(self, versions: list[Version]) -> Mapping[Version, bytes]:
        return await self._jobs.get_results(list({each.job_id for each in versions}))
