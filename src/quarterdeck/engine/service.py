"""Engine: the parts of the service, their order of start and stop, and what callers may ask of them."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Literal, TypeVar

from quarterdeck.clock import DatabaseClock
from quarterdeck.config import Settings, parse_queues
from quarterdeck.domain.errors import Draining, JobNotFound, Unavailable
from quarterdeck.domain.job import DEFAULT_TENANT, IdSource, Job, NewJob
from quarterdeck.domain.state import TERMINAL, State
from quarterdeck.domain.submission import Submit, parse
from quarterdeck.engine.attempt import ABANDON_AFTER, Stop
from quarterdeck.engine.completer import Completer
from quarterdeck.engine.executor import Executor
from quarterdeck.engine.handle import JobHandle
from quarterdeck.engine.heartbeat import BEATS_PER_LEASE, Heartbeat
from quarterdeck.engine.holdings import Holdings
from quarterdeck.engine.kinds import KindDirectory
from quarterdeck.engine.lease import Lease
from quarterdeck.engine.partitions import Partitions
from quarterdeck.engine.producer import Producer
from quarterdeck.engine.producers import Producers
from quarterdeck.engine.reader import Reader
from quarterdeck.engine.reconciler import Reconciler
from quarterdeck.engine.registry import Registry
from quarterdeck.engine.rescuer import Rescuer
from quarterdeck.engine.submitter import SUBMIT_TIMEOUT, Submitter
from quarterdeck.engine.tasks import Signal, Tasks
from quarterdeck.engine.tick import Tick
from quarterdeck.engine.waiters import Waiters
from quarterdeck.store import pool
from quarterdeck.store.attempts import AttemptStore, Written
from quarterdeck.store.jobs import JobStore
from quarterdeck.store.kinds import KindStore
from quarterdeck.store.upkeep import UpkeepStore
from quarterdeck.store.workers import WorkerIdentity
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

T = TypeVar("T")

CLOSE_TIMEOUT = 1.0
"""Seconds that a stop waits for submits under way."""
INTERRUPT_TIMEOUT = 4.0
"""Seconds for handlers to end after the grace period, when they were told to."""
FLUSH_TIMEOUT = 2.0
"""Seconds that a stop waits for what has ended to be written."""
LEAVE_TIMEOUT = 1.5
"""Seconds to give back what is still held, and again to end the lease."""


class Engine:
    """Submits, claims, runs and finishes jobs on one database, in one event loop."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        *,
        api: pool.Pool,
        work: pool.Pool,
        dsn: str,
        resources: Mapping[str, Any],
        version: str,
    ) -> None:
        self._settings = settings
        self._version = version
        self._registry = registry
        self._tasks = Tasks(self._on_death)
        self._calls: set[asyncio.Task[Any]] = set()
        self._jobs = JobStore(api)
        self._kinds = KindStore(api)
        self._attempts = AttemptStore(work)
        self._upkeep = UpkeepStore(work)
        self._runs = settings.role != "web"
        self.clock = DatabaseClock()
        self._died = asyncio.Event()
        self._death: BaseException | None = None
        self._hurry = Signal()
        self._started = False
        self._drained_at: float | None = None
        self._holdings = Holdings()
        self._lease = Lease(settings.lease, self.clock, self._on_new_lease, self._on_lost_lease)
        self._heartbeat = Heartbeat(
            dsn=dsn,
            identity=self._identity,
            lease=settings.lease,
            running=lambda: self._executor.running,
            on_beat=self._lease.beat,
            on_lost=self._lease.lose,
        )
        self._waiters = Waiters(self._jobs)
        self._reader = Reader(self._jobs)
        self._completer = Completer(self._attempts, self._upkeep, self._holdings, self._on_written)
        self._executor = Executor(
            settings.concurrency if self._runs else 0,
            registry=registry,
            holdings=self._holdings,
            completer=self._completer,
            clock=self.clock,
            resources=resources,
            submit=self.submit_by_name,
        )
        self._producers = Producers(parse_queues(settings.queues), self._make_producer, self._tasks, enabled=self._runs)
        self._executor.hungry = self._producers.feed
        self._rescuer = Rescuer(self._upkeep, self._lease.may_rescue, self._on_written, self._producers.wake)
        self._tick = Tick(
            self._upkeep,
            self._lease.worker,
            self.clock.now,
            on_work=self._producers.wake,
            on_cancel=self._executor.cancel,
            on_lapsed=self._rescuer.wake,
            on_written=self._on_written,
        )
        self._reconciler = Reconciler(
            self._attempts,
            self._holdings,
            worker=self._lease.worker,
            claiming_since=self._producers.claiming_since,
            every=settings.lease / BEATS_PER_LEASE,
            on_written=self._on_written,
        )
        self._submitter = Submitter(
            self._jobs,
            self._upkeep,
            directory=KindDirectory(registry, self._kinds),
            ids=IdSource(self.clock.milliseconds),
            executor=self._executor,
            holdings=self._holdings,
            lanes=self._producers,
            worker=self._lease.worker,
            due=lambda job: self._tick.expect(job.run_at),
        )

    # Life

    async def start(self) -> None:
        """Announces the kinds, begins the lease and starts every loop. Raises what asyncpg raises."""
        await self._kinds.announce_kinds(self._registry.handlers)
        self._heartbeat.start()
        self._tasks.spawn("heartbeat watch", self._watch_heartbeat())
        for name, part in (
            ("submitter", self._submitter),
            ("completer", self._completer),
            ("tick", self._tick),
            ("rescuer", self._rescuer),
            ("waiters", self._waiters),
            ("reader", self._reader),
            ("partitions", Partitions(self._upkeep)),
        ):
            self._tasks.spawn(name, part.run())
        if self._runs:
            self._tasks.spawn("executor", self._executor.run())
            self._tasks.spawn("reconciler", self._reconciler.run())
        self._started = True

    def drain(self) -> None:
        """Claims nothing more, gives back what was claimed and not begun, and ends long polls. Idempotent."""
        if self._drained_at is not None:
            return
        self._drained_at = time.monotonic()
        log.info("engine.drains", running=self._executor.running)
        self._heartbeat.drain()
        self._submitter.stop_hand_off()
        self._producers.stop()
        self._waiters.drain()
        self._executor.drain()

    def hurry(self) -> None:
        """Ends the grace period: running handlers are told to stop now."""
        self._hurry.set()

    @property
    def draining(self) -> bool:
        """Whether a stop has begun."""
        return self._drained_at is not None

    async def stop(self, grace: float) -> None:
        """Drains, lets running handlers end, then gives back what is left, and stops every loop.

        `grace` is the seconds that handlers have from the beginning of the drain.
        """
        if self._started:
            self.drain()
            await self._submitter.close(CLOSE_TIMEOUT)
            await self._end_attempts(grace - (time.monotonic() - (self._drained_at or 0.0)))
            if await self._completer.drain(FLUSH_TIMEOUT):
                await self._release(self._lease.worker())
            await self._heartbeat.stop(LEAVE_TIMEOUT)
            self._started = False
        self._lease.close()
        await self._tasks.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _end_attempts(self, grace: float) -> None:
        idle = asyncio.create_task(self._executor.wait_idle(grace))
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({idle, hurry}, return_when=asyncio.FIRST_COMPLETED)
        for task in (idle, hurry):
            task.cancel()
        await asyncio.gather(idle, hurry, return_exceptions=True)
        if self._executor.running:
            log.warning("engine.interrupts", running=self._executor.running)
            self._executor.stop_all(Stop.SHUTDOWN)
            await self._executor.wait_idle(INTERRUPT_TIMEOUT)

    async def _release(self, worker: str | None) -> None:
        if worker is None:
            return
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT):
                released = await self._attempts.release_worker(worker)
            if released:
                log.info("jobs.released", count=len(released))
        except Exception as error:
            if not pool.is_passing(error):
                raise
            log.warning("engine.release_failed", error=str(error))

    async def death(self) -> BaseException:
        """Waits until a loop dies by an exception, which none should, and returns that."""
        await self._died.wait()
        return self._death or RuntimeError("a loop died")

    # What callers ask

    async def check(self, body: Submit, *, tenant: str = DEFAULT_TENANT) -> NewJob:
        """Every check of a submit, and nothing stored. Raises SubmitError, Unavailable."""
        self._require_start()
        return await self._submitter.check(body, tenant=tenant)

    async def submit(
        self,
        body: Submit,
        *,
        tenant: str = DEFAULT_TENANT,
        parent: uuid.UUID | None = None,
        traceparent: str | None = None,
    ) -> Job:
        """Stores a job; it is durable when this returns. Raises SubmitError, Draining, Unavailable."""
        self._require_start()
        return await self._submitter.submit(body, tenant=tenant, parent=parent, traceparent=traceparent)

    async def submit_by_name(
        self,
        kind: str,
        args: Mapping[str, Any] | None = None,
        *,
        tenant: str = DEFAULT_TENANT,
        parent: uuid.UUID | None = None,
        **options: Any,
    ) -> JobHandle:
        """Submits from Python; `options` are the submit options of the contract, section 4."""
        document = {"kind": kind, "args": dict(args or {}), **options}
        job = await self.submit(parse(document), tenant=tenant, parent=parent)
        return JobHandle(self, job.id, tenant)

    async def get(self, job_id: uuid.UUID, *, tenant: str = DEFAULT_TENANT) -> Job:
        """The job as it is now. Raises JobNotFound, Unavailable."""
        self._require_start()
        job = await self._reader.get(job_id, tenant)
        if job is None:
            raise JobNotFound(f"there is no job {job_id}")
        return job

    async def wait(self, job_id: uuid.UUID, timeout: float | None, *, tenant: str = DEFAULT_TENANT) -> Job:
        """The job once it has ended, or as it is after `timeout` seconds, or when this process stops."""
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

    async def cancel(self, job_id: uuid.UUID, *, tenant: str = DEFAULT_TENANT) -> Job:
        """Cancels a waiting job at once, asks a running one to stop, leaves an ended one.

        Raises JobNotFound, Unavailable.
        """
        self._require_start()
        job = None
        # A job that moves between the look and the lock is looked at again; it cannot do so for ever.
        for _ in range(5):
            answer = await self._call(self._jobs.cancel_job(job_id, tenant))
            if answer is not None and answer.state in TERMINAL:
                self._waiters.ended([job_id])
            job = await self.get(job_id, tenant=tenant)
            if job.state is State.RUNNING:
                self._executor.cancel(job_id)
            if answer is not None or job.terminal or job.state is State.RUNNING:
                return job
        raise Unavailable("the job changes too fast to be cancelled; try again")

    async def readiness(self) -> dict[str, Literal["ok", "starting", "draining", "unavailable"]]:
        """What `/readyz` tells: of the database and of the engine."""
        database: Literal["ok", "unavailable"] = "ok"
        try:
            await self._call(self._kinds.ping())
        except Unavailable:
            database = "unavailable"
        engine: Literal["ok", "starting", "draining", "unavailable"] = "ok"
        if self.draining:
            engine = "draining"
        elif not self._started:
            engine = "starting"
        elif self._lease.worker() is None:
            engine = "unavailable"
        return {"database": database, "engine": engine}

    def _require_start(self) -> None:
        if not self._started:
            raise Unavailable("the service has not reached its database yet")

    async def _call(self, statement: Coroutine[Any, Any, T]) -> T:
        """Runs a statement to its end even where the caller goes away; turns trouble into Unavailable within 2 s."""
        task = asyncio.create_task(statement)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        try:
            async with asyncio.timeout(SUBMIT_TIMEOUT):
                return await asyncio.shield(task)
        except Exception as error:
            if pool.is_passing(error) or pool.is_conflict(error):
                raise Unavailable("the database cannot be reached") from error
            raise

    # What parts tell each other

    def _on_written(self, rows: Sequence[Written]) -> None:
        self._waiters.ended(row.id for row in rows if row.state in TERMINAL)
        self._producers.feed()  # a queue's limit in this process counts until the end is written
        for row in rows:
            if row.run_at is not None and row.state in (State.SCHEDULED, State.RETRYABLE):
                self._tick.expect(row.run_at)

    def _on_new_lease(self) -> None:
        self._rescuer.wake()

    def _on_lost_lease(self, worker: str) -> None:
        self._heartbeat.renounce(worker)
        self._executor.stop_all(Stop.LEASE_LOST)
        self._holdings.clear()
        if not self.draining:
            self._tasks.spawn("aftermath", self._aftermath(worker))

    async def _aftermath(self, worker: str) -> None:
        """What ran under a lost lease is given back once its handlers have ended, unless somebody has taken it."""
        await self._executor.wait_idle(ABANDON_AFTER)
        await self._release(worker)

    def _on_death(self, error: BaseException) -> None:
        self._death = self._death or error
        self._died.set()

    async def _watch_heartbeat(self) -> None:
        raise RuntimeError("the heartbeat thread died") from await self._heartbeat.death()

    def _make_producer(self, queue: str, limit: int | None) -> Producer:
        return Producer(
            queue,
            limit,
            kinds=self._registry.kinds,
            attempts=self._attempts,
            executor=self._executor,
            holdings=self._holdings,
            worker=self._lease.worker,
        )

    def _identity(self) -> WorkerIdentity:
        host = socket.gethostname()
        return WorkerIdentity(
            id=f"{host}-{os.getpid()}-{secrets.token_hex(4)}",
            host=host,
            pid=os.getpid(),
            role=self._settings.role,
            queues=self._settings.queues,
            kinds=self._registry.kinds if self._runs else [],
            slots=self._settings.concurrency if self._runs else 0,
            version=self._version,
        )
