"""Readings: the values of gauges, at the moment somebody asks."""

from __future__ import annotations

from collections.abc import Mapping

from quarterdeck.engine.calls import Calls
from quarterdeck.engine.completer import Completer
from quarterdeck.engine.executor import Executor
from quarterdeck.engine.lease import Lease
from quarterdeck.engine.submitter import Submitter
from quarterdeck.store import pool
from quarterdeck.store.cache import Cache
from quarterdeck.store.depths import DepthStore, QueueDepth


class Readings:
    """What `/metrics` tells of this process, and of the queues in the whole database."""

    def __init__(
        self,
        store: DepthStore,
        *,
        calls: Calls,
        executor: Executor,
        submitter: Submitter,
        completer: Completer,
        lease: Lease,
        cache: Cache,
        pools: Mapping[str, pool.Pool],
    ) -> None:
        self._store = store
        self._calls = calls
        self._executor = executor
        self._submitter = submitter
        self._completer = completer
        self._lease = lease
        self._cache = cache
        self._pools = pools

    def gauges(self) -> dict[str, Mapping[tuple[str, ...], float]]:
        """Values by labels, by the names of the metrics. Reads counters, and waits for nothing."""
        single: dict[str, float] = {
            "slots": self._executor.slots,
            "jobs_running": self._executor.running,
            "jobs_prefetched": self._executor.prefetched,
            "submits_waiting": self._submitter.waiting,
            "ends_waiting": self._completer.unwritten,
            "handlers_stuck": self._executor.abandoned,
        }
        gauges: dict[str, dict[tuple[str, ...], float]] = {name: {(): value} for name, value in single.items()}
        age = self._lease.age()
        if age is not None:
            gauges["lease_age_seconds"] = {(): age}
        connections = gauges["pool_connections"] = {}
        for name, each in self._pools.items():
            idle = each.get_idle_size()
            connections[name, "idle"] = idle
            connections[name, "in_use"] = each.get_size() - idle
        return {**gauges, **self._cache.gauges()}

    async def depths(self) -> list[QueueDepth]:
        """How many jobs each queue holds. Raises Unavailable."""
        self._calls.require_open()
        return await self._calls.call(self._store.queue_depths())
