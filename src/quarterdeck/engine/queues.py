"""Queues: what callers may ask about queues, and change in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from quarterdeck.domain.queue import Depth, QueuePatch, QueueReport, QueueSettings, checked
from quarterdeck.engine.calls import Calls
from quarterdeck.engine.shared import Shared
from quarterdeck.store.queues import QueueStore

KEEP_DEPTH = 0.4
"""Seconds that a count of depths is given out for."""
KEEP_THROUGHPUT = 1.0
"""Seconds that a count of ended jobs is given out for."""
WINDOW = 10.0
"""Seconds that the throughput is counted over."""


class Queues:
    """Lists, describes and changes queues. Every method raises Unavailable where the database is out.

    Settings are read anew for each caller; counts are shared by all who ask within a moment.
    """

    def __init__(
        self,
        store: QueueStore,
        *,
        calls: Calls,
        on_paused: Callable[[str], None],
        on_resumed: Callable[[Sequence[str]], None],
        on_bound: Callable[[str, int | None], None],
    ) -> None:
        """`on_paused`, `on_resumed` and `on_bound` (with the `max_depth`) hear of a change that was committed here."""
        self._store = store
        self._calls = calls
        self._on_paused = on_paused
        self._on_resumed = on_resumed
        self._on_bound = on_bound
        # Not kept at all: callers at the same time share a statement that begins after they have asked.
        self._settings: Shared[QueueSettings] = Shared(self._get_settings, 0.0)
        self._depths: Shared[Depth] = Shared(self._count_depths, KEEP_DEPTH)
        self._finished: Shared[int] = Shared(self._count_finished, KEEP_THROUGHPUT)

    async def page(self, after: str, limit: int) -> list[QueueReport]:
        """Up to `limit` queues by name, from after `after`: those that were ever set or have unfinished jobs."""
        self._calls.require_open()
        names = await self._calls.call(self._store.name_queues(after, limit))
        return await self._reports(await self._calls.call(self._settings.get(names)))

    async def get(self, name: str) -> QueueReport:
        """One queue; where nobody has named it yet, as it would be."""
        self._calls.require_open()
        (report,) = await self._reports(await self._calls.call(self._settings.get([name])))
        return report

    async def update(self, name: str, patch: QueuePatch) -> QueueReport:
        """Changes settings, which takes effect for claims with the commit, and returns the queue.

        Raises InvalidSettings.
        """
        self._calls.require_open()
        settings = await self._calls.call(self._store.update_queue(name, checked(patch)))
        if patch.max_depth is not msgspec.UNSET:
            self._on_bound(name, settings.max_depth)
        if settings.paused:
            self._on_paused(name)
        elif patch.paused is not msgspec.UNSET:
            self._on_resumed([name])
        (report,) = await self._reports({name: settings})
        return report

    async def _reports(self, settings: Mapping[str, QueueSettings]) -> list[QueueReport]:
        if not settings:
            return []
        finished = await self._calls.call(self._finished.get(settings))
        # Last, so that nothing stands between the count and its answer.
        depths = await self._calls.call(self._depths.get(settings))
        return [QueueReport(name, settings[name], depths[name], finished[name] / WINDOW) for name in sorted(settings)]

    async def _get_settings(self, names: Sequence[str]) -> Mapping[str, QueueSettings]:
        return dict.fromkeys(names, QueueSettings()) | await self._store.get_queues(names)

    async def _count_depths(self, names: Sequence[str]) -> Mapping[str, Depth]:
        return await self._store.count_depths(names)

    async def _count_finished(self, names: Sequence[str]) -> Mapping[str, int]:
        return dict.fromkeys(names, 0) | await self._store.count_finished(names, WINDOW)
