"""Jobs: what callers may ask about jobs, whichever way they come."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import msgspec

from quarterdeck.domain.errors import Draining, JobNotFound, QueueFull, Unavailable
from quarterdeck.domain.events import Event
from quarterdeck.domain.job import DEFAULT_TENANT, IdempotencyKey, Job, NewJob
from quarterdeck.domain.state import State
from quarterdeck.domain.submission import Submit, parse
from quarterdeck.engine.calls import Calls
from quarterdeck.engine.checker import Checker
from quarterdeck.engine.fleet import Fleet
from quarterdeck.engine.handle import JobHandle
from quarterdeck.engine.live import Live
from quarterdeck.engine.meter import Meter
from quarterdeck.engine.reader import Reader
from quarterdeck.engine.room import RoomKeeper
from quarterdeck.engine.stored import Submitted, replay
from quarterdeck.engine.streams import Gone
from quarterdeck.engine.submitter import Submitter
from quarterdeck.engine.tasks import Signal
from quarterdeck.engine.waiters import Waiters
from quarterdeck.store.attempts import Written
from quarterdeck.store.jobs import JobStore

PAUSE = 0.5
"""Seconds between tries while the database is out."""
TRIES = 5
"""How often a job that moves between a look and a lock is looked at again."""


class Jobs:
    """Submit, look up, wait for and cancel jobs. Every method raises Unavailable where the database is out."""

    def __init__(
        self,
        store: JobStore,
        *,
        calls: Calls,
        room: RoomKeeper,
        fleet: Fleet,
        checker: Checker,
        submitter: Submitter,
        reader: Reader,
        waiters: Waiters,
        cancel_here: Callable[[uuid.UUID], bool],
        live: Live,
        meter: Meter,
    ) -> None:
        self._store = store
        self._calls = calls
        self._room = room
        self._fleet = fleet
        self._checker = checker
        self._submitter = submitter
        self._reader = reader
        self._waiters = waiters
        self._cancel_here = cancel_here
        self._live = live
        self._meter = meter

    async def check(self, body: Submit, *, tenant: str = DEFAULT_TENANT) -> NewJob:
        """Every check of a submit, and nothing stored. Raises SubmitError."""
        self._calls.require_open()
        return await self._checker.check(body, tenant=tenant)

    async def submit(
        self,
        body: Submit,
        *,
        tenant: str = DEFAULT_TENANT,
        parent: uuid.UUID | None = None,
        traceparent: str | None = None,
        idempotency: IdempotencyKey | None = None,
    ) -> Submitted:
        """Stores a job; it is durable when this returns. A key that is taken finds the earlier job, or answer.

        Raises SubmitError, QueueFull, IdempotencyMismatch, IdempotencyInFlight, Draining.
        """
        self._calls.require_open()
        job = await self._checker.check(body, tenant=tenant, parent=parent, traceparent=traceparent)
        if idempotency is not None:
            job = msgspec.structs.replace(job, idempotency=idempotency)
        try:
            async with self._room.reserve({job.queue: 1}):
                submitted = await self._submitter.insert(job)
        except QueueFull:
            earlier = await self._calls.call(self._earlier(job))
            if earlier is None:
                raise
            submitted = earlier
        self._meter.submitted(job.queue, job.kind, submitted.how)
        return submitted

    async def _earlier(self, job: NewJob) -> Submitted | None:
        """What an earlier submit with a key of this one made: to find that takes no room in a queue."""
        if job.idempotency is not None:
            answer = await self._store.find_answer(job.idempotency)
            if answer is not None:
                return replay(job.idempotency, answer)
        if job.unique_key is not None:
            for holder in (await self._store.find_unique([job])).values():
                found = await self._store.get_jobs([holder])
                return Submitted(found[holder], duplicate=True) if found else None
        return None

    async def submit_by_name(
        self,
        kind: str,
        args: Mapping[str, Any] | None = None,
        *,
        tenant: str = DEFAULT_TENANT,
        parent: uuid.UUID | None = None,
        **options: Any,
    ) -> JobHandle:
        """Submits from Python; `options` are the submit options of the contract, section 4. Raises SubmitError."""
        document = {"kind": kind, "args": dict(args or {}), **options}
        submitted = await self.submit(parse(document), tenant=tenant, parent=parent)
        return JobHandle(self, submitted.job.id, tenant)

    async def get(self, job_id: uuid.UUID, *, tenant: str = DEFAULT_TENANT) -> Job:
        """The job as it is now. Raises JobNotFound."""
        self._calls.require_open()
        job = await self._reader.get(job_id, tenant)
        await self._fleet.look([job])
        return self._fleet.present(job)

    async def wait(self, job_id: uuid.UUID, timeout: float | None, *, tenant: str = DEFAULT_TENANT) -> Job:
        """The job once it has ended, or as it is after `timeout` seconds, or when this process stops.

        Raises JobNotFound.
        """
        with self._waiters.expect(job_id) as end:
            job = await self.get(job_id, tenant=tenant)
            if job.terminal:
                return job
            try:
                if not await end.wait(timeout):
                    return await self.get(job_id, tenant=tenant)
            except Draining:
                return job
        return await self.get(job_id, tenant=tenant)

    async def wait_for_change(
        self, job_id: uuid.UUID, timeout: float, known: Callable[[Job], bool], *, tenant: str = DEFAULT_TENANT
    ) -> Job:
        """The job once it has ended or is not `known` any more, or as it is after `timeout` seconds, or at a stop.

        Raises JobNotFound.
        """
        until = time.monotonic() + timeout
        while True:
            with self._waiters.expect(job_id) as change:
                job = await self.get(job_id, tenant=tenant)
                left = until - time.monotonic()
                if job.terminal or left <= 0 or not known(job):
                    return job
                change.version = (job.generation, job.seq)
                try:
                    await change.wait(left)
                except Draining:
                    return job

    async def events(
        self, job_id: uuid.UUID, *, after: int = 0, tenant: str = DEFAULT_TENANT
    ) -> AsyncGenerator[Event, None]:
        """The job's events after some seq as they come, each once and in order, up to the one that ends it.

        It pauses while the database is out. Raises JobNotFound, also where the job is deleted meanwhile, and Draining.
        """
        job = await self.get(job_id, tenant=tenant)
        if job.terminal and after >= job.seq:
            return
        news = Signal()
        with self._live.audience(news.set), self._live.streams.follow(job_id, after, news.set) as following:
            while not self._live.draining:
                try:
                    events = await following.take()
                except Gone as gone:
                    raise JobNotFound(str(gone)) from None
                except Unavailable:
                    await asyncio.sleep(PAUSE)
                    continue
                for event in events:
                    yield event
                if events and events[-1].ends and not following.pending:
                    return
                if not events:
                    await news.wait()
        raise Draining("this process is stopping")

    async def cancel(self, job_id: uuid.UUID, *, tenant: str = DEFAULT_TENANT) -> Job:
        """Cancels a waiting job at once, asks a running one to stop, leaves an ended one. Raises JobNotFound."""
        self._calls.require_open()
        for _ in range(TRIES):
            answer = await self._calls.call(self._store.cancel_job(job_id, tenant))
            if answer is not None:
                self._live.written([Written(job_id, answer.queue, answer.state, answer.seq)])
            job = await self.get(job_id, tenant=tenant)
            if job.state is State.RUNNING and not self._cancel_here(job_id):
                self._live.announcer.cancel(job_id)
            if answer is not None or job.terminal or job.state is State.RUNNING:
                return job
        raise Unavailable("the job changes too fast to be cancelled; try again")
