"""Fleet: which processes there are, what they can run, and which jobs nobody can run just now."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence

import msgspec

from quarterdeck.domain.errors import Unavailable
from quarterdeck.domain.job import Job
from quarterdeck.domain.state import Reason, State
from quarterdeck.engine.calls import Calls
from quarterdeck.engine.shared import Shared
from quarterdeck.store.fleet import FleetStore, KnownKind, LiveWorker

KEEP = 2.0
"""Seconds that the knowledge of idle kinds is used for."""
UNROUTABLE_AFTER = 60.0
"""Seconds without a live worker for its kind after which an available job is shown as unroutable."""

_ALL = "*"


class Fleet:
    """Describes kinds and live workers, and knows which kinds nobody runs.

    `present` is for every job on its way to a caller: `await look([job])` first, then `present(job)`.
    """

    def __init__(self, store: FleetStore, *, calls: Calls, runs: Callable[[str], bool]) -> None:
        """`runs` says whether this process itself is live and runs a kind: then nobody has to be asked."""
        self._store = store
        self._calls = calls
        self._runs = runs
        self._idle: Mapping[str, float] = {}
        self._looks: Shared[Mapping[str, float]] = Shared(self._look, KEEP)

    async def kinds(self, after: str, limit: int) -> list[KnownKind]:
        """Up to `limit` known kinds by name, from after `after`. Raises Unavailable."""
        self._calls.require_open()
        return await self._calls.call(self._store.describe_kinds(after, limit))

    async def workers(self, after: tuple[dt.datetime, str], limit: int) -> list[LiveWorker]:
        """Up to `limit` live workers, the newest first, from after that moment and id. Raises Unavailable."""
        self._calls.require_open()
        return await self._calls.call(self._store.list_workers(after, limit))

    async def look(self, jobs: Sequence[Job]) -> None:
        """Brings up to date what `present` needs to know of these jobs. Costs nothing where this process runs them."""
        if any(self._may_be_unroutable(job) for job in jobs):
            try:
                self._idle = (await self._calls.call(self._looks.get([_ALL])))[_ALL]
            except Unavailable:
                self._idle = {}  # nobody is called idle on hearsay

    def present(self, job: Job) -> Job:
        """The job as callers see it: `unroutable` where nobody has been able to run it for a minute."""
        if self._may_be_unroutable(job) and self._idle.get(job.kind, 0.0) >= UNROUTABLE_AFTER:
            return msgspec.structs.replace(job, state_reason=Reason.UNROUTABLE)
        return job

    def _may_be_unroutable(self, job: Job) -> bool:
        return job.state is State.AVAILABLE and not self._runs(job.kind)

    async def _look(self, names: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        idle = await self._store.idle_kinds()
        return dict.fromkeys(names, idle)
