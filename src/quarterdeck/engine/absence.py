"""Absence: why a job cannot be found."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from quarterdeck.domain.errors import JobGone, JobNotFound
from quarterdeck.domain.job import submitted_at
from quarterdeck.engine.calls import Calls
from quarterdeck.engine.shared import Shared
from quarterdeck.store.upkeep import KeptHistory, UpkeepStore

KEEP = 60.0
"""Seconds for which a look at what is kept holds: it changes once a day."""
_TIME_ORDERED = 7


class Absence:
    """Tells ids that never were from those of jobs whose day is not kept any more."""

    def __init__(self, upkeep: UpkeepStore, calls: Calls) -> None:
        self._upkeep = upkeep
        self._calls = calls
        self._kept: Shared[KeptHistory] = Shared(self._look, KEEP)

    async def error(self, job_id: uuid.UUID) -> JobNotFound:
        """What to raise for an id that is in no table; JobGone where its time is that of history which was dropped.

        Raises Unavailable.
        """
        if job_id.version == _TIME_ORDERED:
            kept = (await self._calls.call(self._kept.get(["history"])))["history"]
            moment = submitted_at(job_id) / 1000
            if kept.oldest is not None and kept.installed.timestamp() <= moment < kept.oldest.timestamp():
                return JobGone(f"the history of {kept.oldest:%Y-%m-%d} and later is kept; job {job_id} is older")
        return JobNotFound(f"there is no job {job_id}")

    async def _look(self, names: Sequence[str]) -> Mapping[str, KeptHistory]:
        return dict.fromkeys(names, await self._upkeep.kept_history())
