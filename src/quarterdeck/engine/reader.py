"""Reader: looks jobs up in groups, one statement for all who ask at the same time."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping

import msgspec

from quarterdeck.domain.errors import JobNotFound, Unavailable
from quarterdeck.domain.job import Job
from quarterdeck.engine.absence import Absence
from quarterdeck.engine.calls import CALL_TIMEOUT
from quarterdeck.engine.grouped import Grouped
from quarterdeck.engine.meter import Meter
from quarterdeck.engine.results import LARGE_FROM, Results
from quarterdeck.store.cache import Cache
from quarterdeck.store.jobs import JobStore, LookedUp

MAX_GROUP = 500
TRIES = 5
"""How often a job that changes between a look at it and one for its result is looked at again."""


class Reader:
    """Answers look-ups by id, in groups. Large results come from elsewhere, for the very version that was looked up."""

    def __init__(
        self, jobs: JobStore, cache: Cache, absence: Absence, meter: Meter, *, largest: int = LARGE_FROM
    ) -> None:
        """Results of more than `largest` bytes, as they are stored, are not read with their jobs."""
        self._jobs = jobs
        self._absence = absence
        self._largest = largest
        self._results = Results(jobs, cache, meter)
        self._rows: Grouped[uuid.UUID, LookedUp] = Grouped("look_up_jobs", self._read, most=MAX_GROUP, meter=meter)

    async def get(self, job_id: uuid.UUID, tenant: str) -> Job:
        """The tenant's job of that id. Raises JobNotFound, Unavailable."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                job = await self._get(job_id, tenant)
        except TimeoutError:
            raise Unavailable("the database did not answer in time") from None
        if job is None:
            raise await self._absence.error(job_id)
        return job

    async def _get(self, job_id: uuid.UUID, tenant: str) -> Job | None:
        for _ in range(TRIES):
            found = await self._rows.get(job_id)
            if found is None:
                return None
            if found.job.tenant != tenant:
                raise JobNotFound(f"there is no job {job_id}")
            if not found.left_out:
                return found.job
            result = await self._results.of(found.version)
            if result is not None:
                return msgspec.structs.replace(found.job, result=result)
        raise Unavailable("the job changes too fast to be read; try again")

    async def run(self) -> None:
        """The loops: rows do not wait behind results, of which each may have a mebibyte."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._rows.run(), name="quarterdeck-reader-rows")
            both.create_task(self._results.run(), name="quarterdeck-reader-results")

    async def _read(self, ids: list[uuid.UUID]) -> Mapping[uuid.UUID, LookedUp]:
        return await self._jobs.look_up_jobs(ids, self._largest)
