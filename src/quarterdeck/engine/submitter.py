"""Submitter: checks what comes in and inserts it in groups, one commit for many callers."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import msgspec

from quarterdeck.domain.errors import (
    Draining,
    FieldError,
    IdempotencyInFlight,
    IdempotencyMismatch,
    InvalidSubmit,
    Unavailable,
)
from quarterdeck.domain.job import IdempotencyKey, Job, NewJob
from quarterdeck.domain.state import State
from quarterdeck.engine.calls import CALL_TIMEOUT, Calls
from quarterdeck.engine.executor import Executor
from quarterdeck.engine.holdings import Holdings
from quarterdeck.engine.meter import Meter
from quarterdeck.engine.stored import Submitted, as_job, claimed_from, replay
from quarterdeck.engine.tasks import Backoff
from quarterdeck.store import pool
from quarterdeck.store.jobs import Answer, Inserted, JobStore
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

MAX_GROUP = 500
INTAKE = 10_000

RETRY_PAUSE = 0.01
HANDED_OFF_SEQ = 2
"""Submitted, started."""


class Lanes(Protocol):
    """Who serves the queues here: told of new work, asked for room."""

    def offer(self, queues: Sequence[str]) -> None:
        """These queues have new work."""

    def free(self, queue: str, free_slots: int) -> int:
        """How many of `free_slots` jobs of `queue` may take."""


class _Request(msgspec.Struct, frozen=True, eq=False):
    job: NewJob
    answer: asyncio.Future[Submitted]


class Submitter:
    """Puts checked submits on its intake queue (`asyncio.Queue`) and inserts what has gathered there.

    A group closes as soon as the previous commit returns: the first waits for nobody. Jobs that this process can begin
    at once are handed off by the insert itself.
    """

    def __init__(
        self,
        jobs: JobStore,
        *,
        calls: Calls,
        executor: Executor,
        holdings: Holdings,
        lanes: Lanes,
        worker: Callable[[], str | None],
        due: Callable[[Job], None],
        stored: Callable[[Collection[uuid.UUID]], None],
        doubt: Callable[[], None],
        meter: Meter,
    ) -> None:
        self._jobs = jobs
        self._calls = calls
        self._executor = executor
        self._holdings = holdings
        self._lanes = lanes
        self._worker = worker
        self._due = due
        self._stored = stored
        self._doubt = doubt
        self._meter = meter
        self._intake: asyncio.Queue[_Request] = asyncio.Queue(INTAKE)
        self._postponed: list[_Request] = []
        self._keys_in_flight: set[IdempotencyKey] = set()
        self._closed = False
        self._hand_off = True
        self.inserting_since: float | None = None

    async def insert(self, job: NewJob) -> Submitted:
        """Stores a checked job; it is durable when this returns.

        Where its unique key is taken, returns the job that holds it; where its idempotency key was used, the job as it
        was answered then. Raises IdempotencyMismatch, IdempotencyInFlight, Draining, Unavailable.
        """
        if self._closed:
            raise Draining("this process is stopping")
        if job.idempotency is None:
            return await self._enqueue(job)
        place = msgspec.structs.replace(job.idempotency, body_hash=b"")
        if place in self._keys_in_flight:
            raise IdempotencyInFlight("the first request with this idempotency key is still being answered")
        self._keys_in_flight.add(place)
        try:
            if job.unique_key is None:
                return await self._enqueue(job)
            return await self._insert_doubly_keyed(job, job.idempotency)
        finally:
            self._keys_in_flight.discard(place)

    async def _enqueue(self, job: NewJob) -> Submitted:
        request = _Request(job, asyncio.get_running_loop().create_future())
        try:
            self._intake.put_nowait(request)
            async with asyncio.timeout(CALL_TIMEOUT):
                return await request.answer
        except asyncio.QueueFull:
            raise Unavailable("too many submits are waiting to be stored") from None
        except TimeoutError:
            raise Unavailable("the database did not store the job in time") from None

    async def _insert_doubly_keyed(self, job: NewJob, key: IdempotencyKey) -> Submitted:
        def first(outcome: Inserted | Job) -> Answer:
            if isinstance(outcome, Job):
                return Answer(job=outcome, duplicate=True)
            return Answer(job=as_job(job, outcome))

        outcome = await self._calls.call(self._jobs.insert_doubly_keyed(job, key, first))
        if outcome is None:
            answer = await self._calls.call(self._jobs.find_answer(key))
            if answer is None:
                raise Unavailable("the idempotency key has just expired; try again")
            return replay(key, answer)
        if isinstance(outcome, Job):
            return Submitted(outcome, duplicate=True)
        stored = as_job(job, outcome)
        self._announce(stored)
        return Submitted(stored)

    @property
    def waiting(self) -> int:
        """How many submits wait for the insert before theirs."""
        return self._intake.qsize()

    def stop_hand_off(self) -> None:
        """From now on jobs are only stored, for others to run."""
        self._hand_off = False

    async def close(self, timeout: float) -> None:
        """Takes nothing more, and waits up to `timeout` seconds for what was taken."""
        self._closed = True
        try:
            async with asyncio.timeout(timeout):
                await self._intake.join()
        except TimeoutError:
            log.warning("submitter.not_drained", waiting=self._intake.qsize())

    async def run(self) -> None:
        """The loop."""
        while True:
            taken = await self._gather()
            self.inserting_since = time.monotonic()
            try:
                await self._insert(taken)
            finally:
                self.inserting_since = None
                for _ in taken:
                    self._intake.task_done()

    async def _gather(self) -> list[_Request]:
        """The next group: what has gathered, but no two jobs with one unique key; the second of them comes next."""
        waiting, self._postponed = self._postponed, []
        if not waiting:
            waiting.append(await self._intake.get())
        while len(waiting) < MAX_GROUP and not self._intake.empty():
            waiting.append(self._intake.get_nowait())
        group: list[_Request] = []
        keys: set[tuple[str, str, str]] = set()
        for request in waiting:
            job = request.job
            if job.unique_key is not None:
                key = (job.tenant, job.queue, job.unique_key)
                if key in keys:
                    self._postponed.append(request)
                    continue
                keys.add(key)
            group.append(request)
        return group

    async def _insert(self, group: list[_Request]) -> None:
        backoff = Backoff(first=0.05, cap=0.5)
        repeated = False
        # Who has stopped waiting is not served; a try may have stored its job all the same.
        while group := [request for request in group if not request.answer.done()]:
            reserved = 0
            try:
                if repeated:
                    group = await self._not_stored(group)
                    if not group:
                        return
                worker = self._worker()
                marks, reserved = self._offers(group, worker)
                began = time.monotonic()
                inserted = await self._jobs.insert_jobs([request.job for request in group], marks, worker)
                self._meter.statement("insert_jobs", time.monotonic() - began, len(group))
                await self._answer(group, inserted)
            except Exception as error:  # noqa: BLE001 - nobody but the caller of each job is to hear of it
                self._meter.database_failed(pool.error_class(error))
                if pool.is_conflict(error):
                    pass
                elif pool.is_passing(error):
                    log.warning("submitter.waits", error=str(error) or type(error).__name__)
                    repeated = True
                    self._doubt()
                    await backoff.pause()
                elif len(group) > 1:
                    middle = len(group) // 2
                    await self._insert(group[:middle])
                    group = group[middle:]
                else:
                    self._refuse(group[0], error)
            finally:
                self._executor.unreserve(reserved)

    async def _not_stored(self, group: list[_Request]) -> list[_Request]:
        """Those that an earlier try, whose reply was lost, did not store; the others are answered.

        A job that was stored may have ended by now: inserted again it would run again.
        """
        stored = await self._jobs.get_jobs([request.job.id for request in group])
        if stored:
            await self._explain([request for request in group if request.job.id in stored], stored)
        return [request for request in group if not request.answer.done()]

    def _offers(self, group: list[_Request], worker: str | None) -> tuple[list[bool], int]:
        """Which jobs to hand off: due ones with a handler here, most urgent first, as many as there are free slots."""
        marks = [False] * len(group)
        free = self._executor.free_slots()
        if not self._hand_off or worker is None or free <= 0:
            return marks, 0
        room: dict[str, int] = {}
        order = sorted(range(len(group)), key=lambda index: group[index].job.priority) if len(group) > 1 else [0]
        chosen = 0
        for index in order:
            job = group[index].job
            if chosen == free:
                break
            if job.delay or not self._executor.knows(job.kind):
                continue
            if job.queue not in room:
                room[job.queue] = self._lanes.free(job.queue, free)
            if room[job.queue] > 0:
                room[job.queue] -= 1
                marks[index] = True
                chosen += 1
        return marks, self._executor.reserve(chosen)

    async def _answer(self, group: list[_Request], inserted: dict[uuid.UUID, Inserted]) -> None:
        missing = []
        for request in group:
            fact = inserted.get(request.job.id)
            if fact is None:
                missing.append(request)
            else:
                self._settle(request, as_job(request.job, fact))
        if missing:
            await self._explain(missing, await self._jobs.get_jobs([request.job.id for request in missing]))

    async def _explain(self, missing: list[_Request], stored: dict[uuid.UUID, Job]) -> None:
        """Why these were not inserted: an earlier try, whose reply was lost, had done it, or a key of theirs is taken.

        `stored` are those that are there. Who stays unanswered is tried again: its key was freed between statements.
        """
        unique = [request.job for request in missing if request.job.unique_key is not None]
        holders = await self._jobs.find_unique(unique) if unique else {}
        earlier = await self._jobs.get_jobs(list(holders.values())) if holders else {}
        keys = [request.job.idempotency for request in missing if request.job.idempotency is not None]
        answers = await self._jobs.find_answers(keys) if keys else {}
        for request in missing:
            job = request.job
            if job.idempotency is not None:
                answer = answers.get(job.idempotency)
                if answer is not None:
                    self._replay(request, job.idempotency, answer, stored.get(job.id))
            elif job.id in stored:
                self._settle(request, stored[job.id])
            elif job.unique_key is None:
                self._refuse(request, RuntimeError("an inserted job is not there"))
            elif (holder := earlier.get(holders.get((job.tenant, job.queue, job.unique_key), job.id))) is not None:
                self._tell(request, Submitted(holder, duplicate=True))
        if not all(request.answer.done() for request in missing):
            await asyncio.sleep(RETRY_PAUSE)

    def _replay(
        self, request: _Request, key: IdempotencyKey, answer: tuple[bytes, uuid.UUID, Answer], stored: Job | None
    ) -> None:
        try:
            submitted = replay(key, answer)
            if stored is None:
                self._tell(request, submitted)
            else:  # our own first answer: later ones will be the same to the byte
                self._settle(request, stored, submitted.job)
        except IdempotencyMismatch as error:
            if not request.answer.done():
                request.answer.set_exception(error)

    def _settle(self, request: _Request, job: Job, said: Job | None = None) -> None:
        # A job found running as the insert made it was handed to us; one that has moved on is already ours or not ours.
        # A claim, whose reply may come after this, leaves the same seq, but it is another transaction than the insert.
        handed = job.state is State.RUNNING and job.seq == HANDED_OFF_SEQ and job.attempted_at == job.created_at
        if handed and job.worker == self._worker() and job.id not in self._holdings:
            self._holdings.add(job.id, 1, job.queue)
            self._executor.accept(claimed_from(request.job, job))
        else:
            self._announce(job)
        self._tell(request, Submitted(said or job))

    def _announce(self, job: Job) -> None:
        self._stored((job.id,))
        if job.state is State.AVAILABLE:
            self._lanes.offer([job.queue])
        elif job.state is State.SCHEDULED:
            self._due(job)

    @staticmethod
    def _tell(request: _Request, submitted: Submitted) -> None:
        if not request.answer.done():
            request.answer.set_result(submitted)

    def _refuse(self, request: _Request, error: Exception) -> None:
        log.error("job.insert_refused", kind=request.job.kind, exc_info=error)
        if pool.is_data_error(error):
            error = InvalidSubmit([FieldError("", "the database cannot store it")])
        if not request.answer.done():
            request.answer.set_exception(error)
