"""Waiters: who waits for jobs to end, or to change, and hears of it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Protocol, Self

from quarterdeck.domain.errors import Draining
from quarterdeck.engine.meter import Meter
from quarterdeck.engine.tasks import Signal
from quarterdeck.engine.trouble import Trouble
from quarterdeck.store.jobs import JobStore

POLL = 0.5
"""Seconds between looks for what happens to jobs elsewhere; one statement for all waiters, none without waiters."""

MAX_LOOK = 1000
"""Jobs that one statement looks at."""

Version = tuple[int, int]
"""Generation and seq of a job."""


class Watcher(Protocol):
    """Somebody who waits for a job. Where `version` is set, any other version is news, else only the job's end."""

    @property
    def job_id(self) -> uuid.UUID:
        """The job."""

    @property
    def version(self) -> Version | None:
        """What is known of it."""

    def told(self, version: Version | None, *, ended: bool) -> None:
        """The job has changed, to this version where anybody knows."""

    def refuse(self) -> None:
        """Nothing will be told any more."""


class Waiters:
    """Wakes whoever waits for a job: at once where it moves in this process, within a poll where it moves elsewhere."""

    def __init__(self, jobs: JobStore, meter: Meter) -> None:
        self._jobs = jobs
        self._meter = meter
        self.on_watch: Callable[[bool], None] = lambda _: None
        self._expected: dict[uuid.UUID, set[Watcher]] = {}
        self._somebody = Signal()
        self._sooner = Signal()
        self._doubted: set[uuid.UUID] = set()
        self._draining = False
        self._watching = False

    def expect(self, job_id: uuid.UUID) -> Expectation:
        """Begins to watch for the end of a job; a context manager.

        The caller looks the job up after it began to watch, or it may miss an end in between.
        """
        return Expectation(self, job_id)

    def moved(self, job_id: uuid.UUID, *, ended: bool) -> None:
        """The job has changed, or ended."""
        for each in tuple(self._expected.get(job_id, ())):
            each.told(None, ended=ended)

    def look(self, ids: Iterable[uuid.UUID] | None) -> None:
        """These jobs may have changed elsewhere; without ids, any: looks at those that are waited for."""
        if ids is None:
            self._doubted.update(self._expected)
        else:
            for job_id in ids:
                for each in tuple(self._expected.get(job_id, ())):
                    if each.version is None:  # waits for the end only, and somebody has to see whether that was it
                        self._doubted.add(job_id)
                    else:
                        each.told(None, ended=False)
        if self._doubted:
            self._sooner.set()

    def drain(self) -> None:
        """Ends every wait: the process is stopping."""
        self._draining = True
        for expected in tuple(self._expected.values()):
            for each in expected:
                each.refuse()

    async def run(self) -> None:
        """The loop: looks for what happens in other processes, at once where one says so."""
        trouble = Trouble("waiters", self._meter, longest=1.0)
        looked = time.monotonic()
        while True:
            if not self._expected:
                await self._somebody.wait()
            await self._sooner.wait(max(0.0, looked + POLL - time.monotonic()))
            ids, self._doubted = list(self._doubted), set()
            if time.monotonic() >= looked + POLL:
                looked, ids = time.monotonic(), list(self._expected)
            try:
                for start in range(0, len(ids), MAX_LOOK):
                    await self._look([each for each in ids[start : start + MAX_LOOK] if each in self._expected])
                trouble.over()
            except Exception as error:  # noqa: BLE001 - sorted there
                await trouble.wait_out(error)

    async def _look(self, ids: list[uuid.UUID]) -> None:
        if not ids:
            return
        watched = [job_id for job_id in ids if any(each.version is not None for each in self._expected[job_id])]
        missing = set(watched)
        for found in await self._jobs.job_versions(ids, watched):
            missing.discard(found.id)
            version = (found.generation, found.seq)
            for each in tuple(self._expected.get(found.id, ())):
                if each.version != version and (found.ended or each.version is not None):
                    each.told(version, ended=found.ended)
        for job_id in missing:  # not there yet, or not any more
            self.moved(job_id, ended=False)

    def add(self, watcher: Watcher) -> None:
        """Registers."""
        if self._draining:
            watcher.refuse()
        self._expected.setdefault(watcher.job_id, set()).add(watcher)
        self._somebody.set()
        self._tell_whether_watching()

    def discard(self, watcher: Watcher) -> None:
        """Forgets."""
        expected = self._expected.get(watcher.job_id, set())
        expected.discard(watcher)
        if not expected:
            self._expected.pop(watcher.job_id, None)
            self._tell_whether_watching()

    def _tell_whether_watching(self) -> None:
        watching = bool(self._expected)
        if watching != self._watching:
            self._watching = watching
            self.on_watch(watching)


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

    def told(self, version: Version | None, *, ended: bool) -> None:
        """It may have happened."""
        if (ended or (self.version is not None and version != self.version)) and not self._future.done():
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
