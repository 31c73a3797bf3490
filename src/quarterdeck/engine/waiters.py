"""Waiters: callers that wait for a job to end."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable
from typing import Self

from quarterdeck.domain.errors import Draining
from quarterdeck.engine.meter import Meter
from quarterdeck.engine.tasks import Signal
from quarterdeck.engine.trouble import Trouble
from quarterdeck.store.jobs import JobStore

POLL = 0.5
"""Seconds between looks for jobs that end elsewhere; one statement for all waiters, none without waiters."""


class Waiters:
    """Wakes whoever waits for a job: at once where it ends in this process, within a poll where it ends elsewhere."""

    def __init__(self, jobs: JobStore, meter: Meter) -> None:
        self._jobs = jobs
        self._meter = meter
        self._futures: dict[uuid.UUID, set[asyncio.Future[None]]] = {}
        self._somebody = Signal()
        self._draining = False

    def expect(self, job_id: uuid.UUID) -> Expectation:
        """Begins to watch for the end of a job; a context manager.

        The caller looks the job up after it began to watch, or it may miss an end in between.
        """
        return Expectation(self, job_id)

    def ended(self, ids: Iterable[uuid.UUID]) -> None:
        """These jobs have ended."""
        for job_id in ids:
            for future in self._futures.get(job_id, ()):
                if not future.done():
                    future.set_result(None)

    def drain(self) -> None:
        """Ends every wait: the process is stopping."""
        self._draining = True
        for futures in self._futures.values():
            for future in futures:
                if not future.done():
                    future.set_exception(Draining("this process is stopping"))

    async def run(self) -> None:
        """The loop: looks for jobs that end in other processes."""
        trouble = Trouble("waiters", self._meter, longest=1.0)
        while True:
            if not self._futures:
                await self._somebody.wait()
            await asyncio.sleep(POLL)
            try:
                if self._futures:
                    self.ended(await self._jobs.ended_jobs(list(self._futures)))
                trouble.over()
            except Exception as error:  # noqa: BLE001 - sorted there
                await trouble.wait_out(error)

    def add(self, job_id: uuid.UUID, future: asyncio.Future[None]) -> None:
        """Registers a future; used by Expectation."""
        if self._draining:
            future.set_exception(Draining("this process is stopping"))
        self._futures.setdefault(job_id, set()).add(future)
        self._somebody.set()

    def discard(self, job_id: uuid.UUID, future: asyncio.Future[None]) -> None:
        """Forgets a future; used by Expectation."""
        futures = self._futures.get(job_id, set())
        futures.discard(future)
        if not futures:
            self._futures.pop(job_id, None)
        if future.done() and not future.cancelled():
            future.exception()


class Expectation:
    """One caller's watch for the end of one job."""

    def __init__(self, waiters: Waiters, job_id: uuid.UUID) -> None:
        self._waiters = waiters
        self._job_id = job_id
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __enter__(self) -> Self:
        self._waiters.add(self._job_id, self._future)
        return self

    def __exit__(self, *_: object) -> None:
        self._waiters.discard(self._job_id, self._future)

    async def wait(self, timeout: float | None) -> bool:
        """Waits for the end, at most `timeout` seconds; says whether it came. Raises Draining."""
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._future)
        except TimeoutError:
            return False
        return True
