"""Waiters: callers that wait for a job to end, or to change."""

from __future__ import annotations

import asyncio
import uuid
from typing import Self

from quarterdeck.domain.errors import Draining
from quarterdeck.engine.meter import Meter
from quarterdeck.engine.tasks import Signal
from quarterdeck.engine.trouble import Trouble
from quarterdeck.store.jobs import JobStore

POLL = 0.5
"""Seconds between looks for what happens to jobs elsewhere; one statement for all waiters, none without waiters."""

Version = tuple[int, int]
"""Generation and seq of a job."""


class Waiters:
    """Wakes whoever waits for a job: at once where it moves in this process, within a poll where it moves elsewhere."""

    def __init__(self, jobs: JobStore, meter: Meter) -> None:
        self._jobs = jobs
        self._meter = meter
        self._expected: dict[uuid.UUID, set[Expectation]] = {}
        self._somebody = Signal()
        self._draining = False

    def expect(self, job_id: uuid.UUID) -> Expectation:
        """Begins to watch for the end of a job; a context manager.

        The caller looks the job up after it began to watch, or it may miss an end in between.
        """
        return Expectation(self, job_id)

    def moved(self, job_id: uuid.UUID, *, ended: bool) -> None:
        """The job has changed, or ended."""
        for each in self._expected.get(job_id, ()):
            if ended or each.version is not None:
                each.wake()

    def drain(self) -> None:
        """Ends every wait: the process is stopping."""
        self._draining = True
        for expected in self._expected.values():
            for each in expected:
                each.refuse()

    async def run(self) -> None:
        """The loop: looks for what happens in other processes."""
        trouble = Trouble("waiters", self._meter, longest=1.0)
        while True:
            if not self._expected:
                await self._somebody.wait()
            await asyncio.sleep(POLL)
            try:
                if self._expected:
                    await self._look()
                trouble.over()
            except Exception as error:  # noqa: BLE001 - sorted there
                await trouble.wait_out(error)

    async def _look(self) -> None:
        ids = list(self._expected)
        watched = [job_id for job_id in ids if any(each.version is not None for each in self._expected[job_id])]
        for found in await self._jobs.job_versions(ids, watched):
            for each in self._expected.get(found.id, ()):
                if found.ended or each.version not in (None, (found.generation, found.seq)):
                    each.wake()

    def add(self, expectation: Expectation) -> None:
        """Registers; used by Expectation."""
        if self._draining:
            expectation.refuse()
        self._expected.setdefault(expectation.job_id, set()).add(expectation)
        self._somebody.set()

    def discard(self, expectation: Expectation) -> None:
        """Forgets; used by Expectation."""
        expected = self._expected.get(expectation.job_id, set())
        expected.discard(expectation)
        if not expected:
            self._expected.pop(expectation.job_id, None)


class Expectation:
    """One caller's wait. Where `version` is set, any other version of the job ends it, else only the job's end."""

    def __init__(self, waiters: Waiters, job_id: uuid.UUID) -> None:
        self.job_id = job_id
        self.version: Version | None = None
        self._waiters = waiters
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __enter__(self) -> Self:
        self._waiters.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._waiters.discard(self)
        if self._future.done() and not self._future.cancelled():
            self._future.exception()

    def wake(self) -> None:
        """It has happened."""
        if not self._future.done():
            self._future.set_result(None)

    def refuse(self) -> None:
        """It will not be told."""
        if not self._future.done():
            self._future.set_exception(Draining("this process is stopping"))

    async def wait(self, timeout: float | None) -> bool:
        """Waits, at most `timeout` seconds; says whether it happened. Raises Draining."""
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._future)
        except TimeoutError:
            return False
        return True
