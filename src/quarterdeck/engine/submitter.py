"""Submitter: checks what comes in and inserts it in groups, one commit for many callers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from quarterdeck.domain.errors import ArgsError, Draining, FieldError, InvalidSubmit, Unavailable
from quarterdeck.domain.job import DEFAULT_TENANT, IdSource, Job, NewJob
from quarterdeck.domain.state import State
from quarterdeck.domain.submission import Submit, resolve
from quarterdeck.engine.executor import Executor
from quarterdeck.engine.holdings import Holdings
from quarterdeck.engine.kinds import KindDirectory
from quarterdeck.engine.tasks import Backoff
from quarterdeck.store import pool
from quarterdeck.store.attempts import ClaimedJob
from quarterdeck.store.jobs import Inserted, JobStore
from quarterdeck.store.upkeep import UpkeepStore
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

MAX_GROUP = 500
INTAKE = 10_000
SUBMIT_TIMEOUT = 1.8
"""Seconds a caller waits for its commit before it is told that the database is unavailable."""


HANDED_OFF_SEQ = 2
"""Submitted, started."""


class Lanes(Protocol):
    """Who serves the queues here: told of new work, asked for room."""

    def wake(self, queues: Sequence[str]) -> None:
        """These queues have work."""

    def free(self, queue: str, free_slots: int) -> int:
        """How many of `free_slots` jobs of `queue` may take."""


class _Request(msgspec.Struct, frozen=True, eq=False):
    job: NewJob
    answer: asyncio.Future[Job]


class Submitter:
    """Puts checked submits on its intake queue (`asyncio.Queue`) and inserts what has gathered there.

    A group closes as soon as the previous commit returns: the first waits for nobody. Jobs that this process can begin
    at once are handed off by the insert itself.
    """

    def __init__(
        self,
        jobs: JobStore,
        upkeep: UpkeepStore,
        *,
        directory: KindDirectory,
        ids: IdSource,
        executor: Executor,
        holdings: Holdings,
        lanes: Lanes,
        worker: Callable[[], str | None],
        due: Callable[[Job], None],
    ) -> None:
        self._jobs = jobs
        self._upkeep = upkeep
        self._directory = directory
        self._ids = ids
        self._executor = executor
        self._holdings = holdings
        self._lanes = lanes
        self._worker = worker
        self._due = due
        self._intake: asyncio.Queue[_Request] = asyncio.Queue(INTAKE)
        self._closed = False
        self._hand_off = True

    async def check(
        self,
        body: Submit,
        *,
        tenant: str = DEFAULT_TENANT,
        parent: uuid.UUID | None = None,
        traceparent: str | None = None,
    ) -> NewJob:
        """The job as it would be inserted. Raises SubmitError, Unavailable."""
        try:
            async with asyncio.timeout(SUBMIT_TIMEOUT):
                handler, defaults = await self._directory.find(body.kind)
        except Exception as error:
            if pool.is_passing(error):
                raise Unavailable("the database cannot be reached") from error
            raise
        job = resolve(body, defaults, self._ids.next(), tenant=tenant)
        if handler is not None:
            try:
                handler.bind(job.args)
            except ArgsError as error:
                raise InvalidSubmit([error.error]) from None
        if parent is None and traceparent is None:
            return job
        return msgspec.structs.replace(job, parent_id=parent, traceparent=traceparent)

    async def submit(
        self,
        body: Submit,
        *,
        tenant: str = DEFAULT_TENANT,
        parent: uuid.UUID | None = None,
        traceparent: str | None = None,
    ) -> Job:
        """Inserts a job and returns it once it is durable. Raises SubmitError, Draining, Unavailable."""
        return await self.insert(await self.check(body, tenant=tenant, parent=parent, traceparent=traceparent))

    async def insert(self, job: NewJob) -> Job:
        """Inserts a checked job; see `submit`."""
        if self._closed:
            raise Draining("this process is stopping")
        request = _Request(job, asyncio.get_running_loop().create_future())
        try:
            self._intake.put_nowait(request)
            async with asyncio.timeout(SUBMIT_TIMEOUT):
                return await request.answer
        except asyncio.QueueFull:
            raise Unavailable("too many submits are waiting to be stored") from None
        except TimeoutError:
            raise Unavailable("the database did not store the job in time") from None

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
            taken = [await self._intake.get()]
            while len(taken) < MAX_GROUP and not self._intake.empty():
                taken.append(self._intake.get_nowait())
            try:
                await self._insert(taken)
            finally:
                for _ in taken:
                    self._intake.task_done()

    async def _insert(self, group: list[_Request]) -> None:
        backoff = Backoff(first=0.05, cap=0.5)
        # Who has stopped waiting is not served; a try may have stored its job all the same.
        while group := [request for request in group if not request.answer.done()]:
            worker = self._worker()
            marks, reserved = self._offers(group, worker)
            try:
                inserted = await self._jobs.insert_jobs([request.job for request in group], marks, worker)
                await self._answer(group, inserted, worker)
            except Exception as error:  # noqa: BLE001 - nobody but the caller of each job is to hear of it
                if pool.is_missing_partition(error):
                    await self._upkeep.ensure_partitions()
                elif pool.is_conflict(error):
                    pass
                elif pool.is_passing(error):
                    log.warning("submitter.waits", error=str(error) or type(error).__name__)
                    await backoff.pause()
                elif len(group) > 1:
                    middle = len(group) // 2
                    await self._insert(group[:middle])
                    group = group[middle:]
                else:
                    self._refuse(group[0], error)
            finally:
                self._executor.unreserve(reserved)

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

    async def _answer(self, group: list[_Request], inserted: dict[uuid.UUID, Inserted], worker: str | None) -> None:
        missing = [request for request in group if request.job.id not in inserted]
        for request in group:
            fact = inserted.get(request.job.id)
            if fact is not None:
                self._settle(request, _as_job(request.job, fact, worker))
        if not missing:
            return
        # An earlier try whose reply was lost had stored them.
        stored = await self._jobs.get_jobs([request.job.id for request in missing])
        for request in missing:
            job = stored.get(request.job.id)
            if job is None:
                self._refuse(request, RuntimeError("an inserted job is not there"))
            else:
                self._settle(request, job)

    def _settle(self, request: _Request, job: Job) -> None:
        # A job found running as the insert made it was handed to us; one that has moved on is already ours or not ours.
        handed = job.state is State.RUNNING and job.seq == HANDED_OFF_SEQ and job.worker == self._worker()
        if handed and job.id not in self._holdings:
            self._holdings.add(job.id, 1, job.queue)
            self._executor.accept(_claimed(request.job, job))
        elif job.state is State.AVAILABLE:
            self._lanes.wake([job.queue])
        elif job.state is State.SCHEDULED:
            self._due(job)
        if not request.answer.done():
            request.answer.set_result(job)

    def _refuse(self, request: _Request, error: Exception) -> None:
        log.error("job.insert_refused", kind=request.job.kind, exc_info=error)
        if pool.is_data_error(error):
            error = InvalidSubmit([FieldError("", "the database cannot store it")])
        if not request.answer.done():
            request.answer.set_exception(error)


def _as_job(new: NewJob, fact: Inserted, worker: str | None) -> Job:
    running = fact.state is State.RUNNING
    return Job(
        id=new.id,
        kind=new.kind,
        queue=new.queue,
        state=fact.state,
        args=new.args,
        priority=new.priority,
        attempt=int(running),
        max_attempts=new.max_attempts,
        generation=1,
        crashes=0,
        timeout=new.timeout,
        created_at=fact.created_at,
        run_at=fact.run_at,
        expires_at=fact.expires_at,
        attempted_at=fact.attempted_at,
        tags=new.tags,
        metadata=new.metadata,
        errors=[],
        worker=worker if running else None,
        seq=fact.seq,
        tenant=new.tenant,
    )


def _claimed(new: NewJob, job: Job) -> ClaimedJob:
    return ClaimedJob(
        new.id, 1, new.kind, new.queue, new.args, 1, new.max_attempts, new.timeout, new.retry, new.tenant, lambda: job
    )
