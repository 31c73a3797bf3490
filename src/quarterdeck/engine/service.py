"""Engine: the parts of the service, their order of start and stop, and what callers may ask of them."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from quarterdeck.clock import DatabaseClock
from quarterdeck.config import Settings, parse_queues
from quarterdeck.domain.job import IdSource
from quarterdeck.domain.state import State
from quarterdeck.engine.absence import Absence
from quarterdeck.engine.aftermath import Aftermath
from quarterdeck.engine.attempt import ABANDON_AFTER, Stop
from quarterdeck.engine.bus import Bus
from quarterdeck.engine.calls import Calls
from quarterdeck.engine.checker import Checker
from quarterdeck.engine.completer import Completer
from quarterdeck.engine.executor import Executor
from quarterdeck.engine.fleet import Fleet
from quarterdeck.engine.heartbeat import BEATS_PER_LEASE, Heartbeat
from quarterdeck.engine.holdings import Holdings
from quarterdeck.engine.identity import identity_of
from quarterdeck.engine.job_edits import JobEdits
from quarterdeck.engine.job_list import JobList
from quarterdeck.engine.jobs import Jobs
from quarterdeck.engine.kinds import KindDirectory
from quarterdeck.engine.lease import Lease
from quarterdeck.engine.live import Live
from quarterdeck.engine.loop_lag import LoopLag
from quarterdeck.engine.meter import Meter
from quarterdeck.engine.partitions import Partitions
from quarterdeck.engine.producer import Producer
from quarterdeck.engine.producers import Producers
from quarterdeck.engine.pruner import Pruner
from quarterdeck.engine.quarantine import Quarantine
from quarterdeck.engine.queues import Queues
from quarterdeck.engine.reader import Reader
from quarterdeck.engine.readiness import Parts, parts
from quarterdeck.engine.readings import Readings
from quarterdeck.engine.reconciler import Reconciler
from quarterdeck.engine.recorder import Recorder
from quarterdeck.engine.registry import Registry
from quarterdeck.engine.rescuer import Rescuer
from quarterdeck.engine.room import RoomKeeper
from quarterdeck.engine.submitter import Submitter
from quarterdeck.engine.tasks import Signal, Tasks
from quarterdeck.engine.tick import Tick
from quarterdeck.engine.waiters import Waiters
from quarterdeck.store import pool
from quarterdeck.store.attempts import AttemptStore, Written
from quarterdeck.store.cache import Cache
from quarterdeck.store.depths import DepthStore
from quarterdeck.store.fleet import FleetStore
from quarterdeck.store.job_edits import JobEditStore
from quarterdeck.store.job_list import JobListStore
from quarterdeck.store.jobs import JobStore
from quarterdeck.store.kinds import KindStore
from quarterdeck.store.queues import QueueStore
from quarterdeck.store.recording import RecordingStore
from quarterdeck.store.upkeep import UpkeepStore
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

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
        bus: Bus | None,
        cache: Cache,
        resources: Mapping[str, Any],
        version: str,
        meter: Meter,
    ) -> None:
        self._settings = settings
        self._meter = meter
        self._registry = registry
        self._tasks = Tasks(self._on_death)
        self._calls = Calls(meter)
        store = JobStore(api)
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
            identity=partial(identity_of, settings, registry.kinds, version),
            lease=settings.lease,
            running=lambda: self._executor.running,
            on_beat=self._lease.beat,
            on_lost=self._lease.lose,
            meter=meter,
        )
        self._waiters = Waiters(store, meter)
        self.live = Live(
            api=api,
            bus=bus,
            calls=self._calls,
            waiters=self._waiters,
            worker=self._lease.worker,
            meter=meter,
        )
        self._reader = Reader(store, cache, Absence(self._upkeep, self._calls), meter)
        self._pruner = Pruner(store, meter)
        self._completer = Completer(
            self._attempts, self._upkeep, self._holdings, self._on_written, clock=self.clock, meter=meter
        )
        self._recorder = Recorder(
            RecordingStore(work), self._upkeep, self._holdings, self._completer, told=self.live.changed, meter=meter
        )
        self._executor = Executor(
            settings.concurrency if self._runs else 0,
            registry=registry,
            holdings=self._holdings,
            completer=self._completer,
            recorder=self._recorder,
            clock=self.clock,
            resources=resources,
            submit=lambda kind, args=None, **options: self.jobs.submit_by_name(kind, args, **options),
            publish=self.live.publish,
            meter=meter,
        )
        self._producers = Producers(parse_queues(settings.queues), self._make_producer, self._tasks, enabled=self._runs)
        self._executor.hungry = self._producers.feed
        self._executor.claimed = self.live.changed
        self._producers.announce = self.live.announcer.work
        self.live.on_work, self.live.on_cancel = self._producers.wake, self._executor.cancel
        self._rescuer = Rescuer(self._upkeep, self._lease.may_rescue, self._on_written, self._producers.wake, meter)
        self._tick = Tick(
            self._upkeep,
            self._lease.worker,
            self.clock.now,
            on_work=self._producers.wake,
            on_cancel=self._executor.cancel,
            on_lapsed=self._rescuer.wake,
            on_written=self._on_written,
            meter=meter,
        )
        self._aftermath = Aftermath(self._attempts, self._on_written, meter)
        self._quarantine = Quarantine(
            self._attempts,
            executor=self._executor,
            holdings=self._holdings,
            worker=self._lease.worker,
            resume=self._producers.feed,
            meter=meter,
        )
        if self._runs:
            self._tick.on_suspects = self._quarantine.wake
        self._reconciler = Reconciler(
            self._attempts,
            self._holdings,
            worker=self._lease.worker,
            in_flight=(self._producers.claiming_since, lambda: self._submitter.inserting_since),
            every=settings.lease / BEATS_PER_LEASE,
            on_written=self._on_written,
            meter=meter,
        )
        self._submitter = Submitter(
            store,
            calls=self._calls,
            executor=self._executor,
            holdings=self._holdings,
            lanes=self._producers,
            worker=self._lease.worker,
            due=lambda job: self._tick.expect(job.run_at),
            stored=self.live.changed,
            doubt=self._reconciler.doubt,
            meter=meter,
        )
        room = RoomKeeper(QueueStore(api), calls=self._calls)
        self._tick.on_bounded = room.see
        self.fleet = Fleet(
            FleetStore(api),
            calls=self._calls,
            runs=lambda kind: self._runs and self._lease.worker() is not None and self._executor.knows(kind),
        )
        self.queues = Queues(
            QueueStore(api),
            calls=self._calls,
            on_paused=self._recall,
            on_resumed=self._producers.offer,
            on_bound=room.bind,
        )
        self.job_list = JobList(JobListStore(api), calls=self._calls, reader=self._reader)
        self.job_edits = JobEdits(
            JobEditStore(api),
            calls=self._calls,
            reader=self._reader,
            registry=registry,
            work=self._producers.offer,
            due=self._tick.expect,
            changed=lambda job_id: self.live.changed([job_id]),
        )
        self.jobs = Jobs(
            store,
            calls=self._calls,
            room=room,
            fleet=self.fleet,
            checker=Checker(KindDirectory(registry, self._kinds), IdSource(self.clock.milliseconds)),
            submitter=self._submitter,
            reader=self._reader,
            waiters=self._waiters,
            cancel_here=self._executor.cancel,
            live=self.live,
            meter=meter,
        )
        self.readings = Readings(
            DepthStore(api),
            calls=self._calls,
            executor=self._executor,
            submitter=self._submitter,
            completer=self._completer,
            lease=self._lease,
            cache=cache,
            pools={"api": api, "engine": work},
        )

    # Life

    async def start(self) -> None:
        """Announces the kinds, begins the lease and starts every loop. Raises what asyncpg raises."""
        await self._upkeep.ensure_partitions()
        await self._kinds.announce_kinds(self._registry.handlers)
        self._heartbeat.start()
        self._tasks.spawn("heartbeat watch", self._watch_heartbeat())
        for name, part in (
            ("submitter", self._submitter),
            ("completer", self._completer),
            ("recorder", self._recorder),
            ("tick", self._tick),
            ("rescuer", self._rescuer),
            ("waiters", self._waiters),
            ("reader", self._reader),
            ("partitions", Partitions(self._upkeep, self._meter)),
            ("pruner", self._pruner),
            ("loop lag", LoopLag(self._meter)),
        ):
            self._tasks.spawn(name, part.run())
        for name, loop in self.live.loops():
            self._tasks.spawn(name, loop())
        if self._runs:
            self._tasks.spawn("executor", self._executor.run())
            self._tasks.spawn("reconciler", self._reconciler.run())
            self._tasks.spawn("quarantine", self._quarantine.run())
        self._started = True
        self._calls.open()
        await self._lease.begun(LEAVE_TIMEOUT)

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
        self.live.drain()
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
            await asyncio.gather(self._submitter.close(CLOSE_TIMEOUT), self.live.topics.close(CLOSE_TIMEOUT))
            await self._end_attempts(grace - (time.monotonic() - (self._drained_at or 0.0)))
            if await self._recorder.drain(FLUSH_TIMEOUT):
                await self._release(self._lease.worker())
            await self._heartbeat.stop(LEAVE_TIMEOUT)
            self._started = False
        self._lease.close()
        await self._tasks.cancel()
        await self._calls.close()

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

    async def readiness(self) -> Parts:
        """What `/readyz` tells: of the database and of the engine."""
        return await parts(self._kinds, self._calls, self._lease, started=self._started, draining=self.draining)

    # What parts tell each other

    def _on_written(self, rows: Sequence[Written]) -> None:
        self._producers.feed()  # a queue's limit in this process counts until the end is written
        self.live.written(rows)
        for row in rows:
            if row.run_at is not None and row.state in (State.SCHEDULED, State.RETRYABLE):
                self._tick.expect(row.run_at)

    def _recall(self, queue: str) -> None:
        self._executor.give_back(queue)
        self._producers.recall(queue)

    def _on_new_lease(self) -> None:
        self._rescuer.wake()

    def _on_lost_lease(self, worker: str) -> None:
        self._heartbeat.renounce(worker)
        self._executor.stop_all(Stop.LEASE_LOST)
        held = self._holdings.take()
        if not self.draining:
            self._tasks.spawn("aftermath", self._settle(worker, held))

    async def _settle(self, worker: str, held: Mapping[uuid.UUID, int]) -> None:
        await self._executor.wait_idle(ABANDON_AFTER)
        await self._aftermath.settle(worker, held)

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
            doubt=self._reconciler.doubt,
            meter=self._meter,
        )
