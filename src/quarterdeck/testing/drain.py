"""Drain: runs what is due, in order, with the parts of a running engine."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import msgspec

from quarterdeck.domain.errors import JobConflict, Unavailable
from quarterdeck.domain.job import Job
from quarterdeck.domain.listing import JobFilter
from quarterdeck.domain.state import State
from quarterdeck.engine.service import Engine
from quarterdeck.store.attempts import ClaimedJob

BATCH = 1000
PAGE = 200
PAUSE = 0.002
"""Seconds between looks at whether an attempt has ended."""
LOOKS = 10
"""Looks after which there may be more to begin, where several run at once."""


class Held(msgspec.Struct, frozen=True):
    """A job that runs."""

    fence: int
    kind: str
    errors: int


class Drain:
    """Claims jobs and hands them to the engine's executor until nothing is left; `ended` is what came of each attempt.

    The engine does everything else: it runs the handlers, keeps their time limits, and writes what they tell and how
    they end.
    """

    def __init__(self, engine: Engine, queue: str | None, *, scheduled: bool, at_once: int, limit: int) -> None:
        self.ended: list[Job] = []
        self.failed: list[Job] = []
        self._engine = engine
        self._queue = queue
        self._scheduled = scheduled
        self._at_once = at_once
        self._limit = limit
        self._begun = 0
        self._held: dict[uuid.UUID, Held] = {}
        # What the engine's own loops do where nobody keeps them from it.
        self._attempts = engine.parts.attempts
        self._executor = engine.parts.executor
        self._holdings = engine.parts.holdings
        self._dropped: list[uuid.UUID] = []
        self._holdings.on_drop = self._dropped.append
        self._kinds = engine.parts.registry.kinds
        self._lease = engine.parts.lease
        self._upkeep = engine.parts.upkeep

    @property
    def running(self) -> list[str]:
        """The kinds of what runs just now."""
        return sorted(held.kind for held in self._held.values())

    async def run(self) -> None:
        """Runs until nothing is left. Raises AssertionError where that takes more than `limit` attempts."""
        while True:
            await self._begin()
            if self._held:
                await self._wait()
            elif not (self._scheduled and await self._hasten()):
                return

    async def _begin(self) -> None:
        await self._collect()  # before they are due again
        await self._upkeep.promote_jobs(BATCH)
        await self._upkeep.expire_jobs(BATCH)
        worker = self._lease.worker()
        if worker is None:
            raise Unavailable("the workbench has lost its lease: was the process stopped for minutes?")
        look = await self._upkeep.tick(worker)
        for queue in look.queues:
            room = self._at_once - len(self._held)
            if room > 0 and self._queue in (None, queue):
                for job in await self._attempts.claim_jobs(queue, room, worker, self._kinds):
                    self._take(job)

    def _take(self, job: ClaimedJob) -> None:
        self._begun += 1
        self._holdings.add(job.id, job.fence, job.queue)
        self._executor.accept(job)
        self._held[job.id] = Held(job.fence, job.kind, len(job.job().errors))
        if self._begun > self._limit:
            raise AssertionError(
                f"{self._limit} attempts were run and there is still work, {job.kind} among it:"
                " does a handler snooze or submit itself for ever? `limit` may be raised"
            )

    async def _wait(self) -> None:
        """Waits until something ends; where there is room for more, not for long."""
        looks = 0
        while not any(self._over()):
            await asyncio.sleep(PAUSE)
            looks += 1
            if looks == LOOKS and len(self._held) < self._at_once:
                return
        await self._collect()

    async def _collect(self) -> None:
        # Several may have ended since the last look, in another order than they began in.
        place = {job_id: number for number, job_id in enumerate(self._dropped)}
        over = sorted(self._over(), key=lambda job_id: place.get(job_id, len(place)))
        self._dropped.clear()
        for job_id in over:
            held = self._held.pop(job_id)
            job = await self._engine.jobs.get(job_id)
            self.ended.append(job)
            if len(job.errors) > held.errors:
                self.failed.append(job)

    def _over(self) -> Iterator[uuid.UUID]:
        return (job_id for job_id, held in self._held.items() if not self._holdings.has(job_id, held.fence))

    async def _hasten(self) -> bool:
        """Makes the job that is due next available now; says whether there was one."""
        waiting = [job async for job in listed(self._engine, JobFilter(states=(State.SCHEDULED, State.RETRYABLE)))]
        ours = [job for job in waiting if job.kind in self._kinds and self._queue in (None, job.queue)]
        if not ours:
            return False
        with suppress(JobConflict):  # it has just come due by itself
            await self._engine.job_edits.retry(min(ours, key=lambda job: (job.run_at, job.id)).id)
        return True


async def listed(engine: Engine, wanted: JobFilter) -> AsyncIterator[Job]:
    """Every job that fits, newest first."""
    cursor = None
    while True:
        page = await engine.job_list.jobs(wanted, limit=PAGE, cursor=cursor)
        for job in page.items:
            yield job
        if (cursor := page.next) is None:
            return
