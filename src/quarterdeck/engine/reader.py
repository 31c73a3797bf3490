"""Reader: looks jobs up in groups, one statement for all who ask at the same time."""

from __future__ import annotations

import asyncio
import time
import uuid

from quarterdeck.domain.errors import JobNotFound, Unavailable
from quarterdeck.domain.job import Job
from quarterdeck.engine.absence import Absence
from quarterdeck.engine.calls import CALL_TIMEOUT
from quarterdeck.engine.meter import Meter
from quarterdeck.store import pool
from quarterdeck.store.jobs import JobStore

MAX_GROUP = 500

_Request = tuple[uuid.UUID, asyncio.Future[Job | None]]


class Reader:
    """Answers look-ups by id. Who asks alone waits for nobody; a thousand waiters woken at once cost a few statements.

    Each group is read after its callers asked, so that everybody sees at least what was committed by then.
    """

    def __init__(self, jobs: JobStore, absence: Absence, meter: Meter) -> None:
        self._jobs = jobs
        self._absence = absence
        self._meter = meter
        self._asked: asyncio.Queue[_Request] = asyncio.Queue()

    async def get(self, job_id: uuid.UUID, tenant: str) -> Job:
        """The tenant's job of that id. Raises JobNotFound, Unavailable."""
        answer: asyncio.Future[Job | None] = asyncio.get_running_loop().create_future()
        self._asked.put_nowait((job_id, answer))
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                job = await answer
        except TimeoutError:
            raise Unavailable("the database did not answer in time") from None
        if job is None:
            raise await self._absence.error(job_id)
        if job.tenant != tenant:
            raise JobNotFound(f"there is no job {job_id}")
        return job

    async def run(self) -> None:
        """The loop."""
        while True:
            group = [await self._asked.get()]
            while len(group) < MAX_GROUP and not self._asked.empty():
                group.append(self._asked.get_nowait())
            if waiting := [(job_id, answer) for job_id, answer in group if not answer.done()]:
                await self._read(waiting)

    async def _read(self, group: list[_Request]) -> None:
        began = time.monotonic()
        try:
            found = await self._jobs.get_jobs(list({job_id for job_id, _ in group}))
        except Exception as error:
            self._meter.database_failed(pool.error_class(error))
            if not pool.is_temporary(error):
                raise
            for _, answer in group:
                if not answer.done():
                    answer.set_exception(Unavailable("the database cannot be reached"))
            return
        self._meter.statement("get_jobs", time.monotonic() - began, len(found))
        for job_id, answer in group:
            if not answer.done():
                answer.set_result(found.get(job_id))
