"""Parts: what the engine is made of, and what its parts tell each other."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
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
from quarterdeck.engine.readings import Readings
from quarterdeck.engine.reconciler import Reconciler
from quarterdeck.engine.recorder import Recorder
from quarterdeck.engine.registry import Registry
from quarterdeck.engine.rescuer import Rescuer
from quarterdeck.engine.room import RoomKeeper
from quarterdeck.engine.submitter import Submitter
from quarterdeck.engine.tasks import Tasks
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


class Parts:
    """Every part of an engine on one database, made and tied together. None of them runs: that is for the engine."""

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
        self.meter = meter
        self.registry = registry
        self.tasks = Tasks()
        self.calls = Calls(meter)
        store = JobStore(api)
        self.kinds = KindStore(api)
        self.attempts = AttemptStore(work)
        self.upkeep = UpkeepStore(work)

        # Who this process is among the workers, and what it holds
        self.runs = settings.role != "web"
        self.clock = DatabaseClock()
        self.holdings = Holdings()
        self.lease = Lease(settings.lease, self.clock, self._on_new_lease, self._on_lost_lease)
        self.heartbeat = Heartbeat(
            dsn=dsn,
            identity=partial(identity_of, settings, registry.kinds, version),
            lease=settings.lease,
            running=lambda: self.executor.running,
            on_beat=self.lease.beat,
            on_lost=self.lease.lose,
            meter=meter,
        )

        # What callers wait for, follow and look up
        self.waiters = Waiters(store, meter)
        self.live = Live(
            api=api,
            bus=bus,
            calls=self.calls,
            waiters=self.waiters,
            worker=self.lease.worker,
            meter=meter,
        )
        self.reader = Reader(store, cache, Absence(self.upkeep, self.calls), meter)
        self.pruner = Pruner(store, meter)

        # Running jobs, and writing what comes of them
        self.completer = Completer(
            self.attempts, self.upkeep, self.holdings, self._on_written, clock=self.clock, meter=meter
        )
        self.recorder = Recorder(
            RecordingStore(work), self.upkeep, self.holdings, self.completer, told=self.live.changed, meter=meter
        )
        self.executor = Executor(
            settings.concurrency if self.runs else 0,
            registry=registry,
            holdings=self.holdings,
            completer=self.completer,
            recorder=self.recorder,
            clock=self.clock,
            resources=resources,
            submit=lambda kind, args=None, **options: self.jobs.submit_by_name(kind, args, **options),
            publish=self.live.publish,
            meter=meter,
        )

        # Finding work, and looking after that of others
        self.producers = Producers(parse_queues(settings.queues), self._make_producer, self.tasks, enabled=self.runs)
        self.executor.hungry = self.producers.feed
        self.executor.claimed = self.live.changed
        self.producers.announce = self.live.announcer.work
        self.live.on_work, self.live.on_cancel = self.producers.wake, self.executor.cancel
        self.rescuer = Rescuer(self.upkeep, self.lease.may_rescue, self._on_written, self.producers.wake, meter)
        self.tick = Tick(
            self.upkeep,
            self.lease.worker,
            self.clock.now,
            on_work=self.producers.wake,
            on_cancel=self.executor.cancel,
            on_lapsed=self.rescuer.wake,
            on_written=self._on_written,
            meter=meter,
        )
        self.aftermath = Aftermath(self.attempts, self._on_written, meter)
        self.quarantine = Quarantine(
            self.attempts,
            executor=self.executor,
            holdings=self.holdings,
            worker=self.lease.worker,
            resume=self.producers.feed,
            meter=meter,
        )
        if self.runs:
            self.tick.on_suspects = self.quarantine.wake
        self.reconciler = Reconciler(
            self.attempts,
            self.holdings,
            worker=self.lease.worker,
            in_flight=(self.producers.claiming_since, lambda: self.submitter.inserting_since),
            every=settings.lease / BEATS_PER_LEASE,
            on_written=self._on_written,
            meter=meter,
        )

        # Taking new jobs
        self.submitter = Submitter(
            store,
            calls=self.calls,
            executor=self.executor,
            holdings=self.holdings,
            lanes=self.producers,
            worker=self.lease.worker,
            due=lambda job: self.tick.expect(job.run_at),
            stored=self.live.changed,
            doubt=self.reconciler.doubt,
            meter=meter,
        )
        room = RoomKeeper(QueueStore(api), calls=self.calls)
        self.tick.on_bounded = room.see

        # What callers may ask
        self.fleet = Fleet(
            FleetStore(api),
            calls=self.calls,
            runs=lambda kind: self.runs and self.lease.worker() is not None and self.executor.knows(kind),
        )
        self.queues = Queues(
            QueueStore(api),
            calls=self.calls,
            on_paused=self._recall,
            on_resumed=self.producers.offer,
            on_bound=room.bind,
        )
        self.job_list = JobList(JobListStore(api), calls=self.calls, reader=self.reader)
        self.job_edits = JobEdits(
            JobEditStore(api),
            calls=self.calls,
            reader=self.reader,
            registry=registry,
            work=self.producers.offer,
            due=self.tick.expect,
            changed=lambda job_id: self.live.changed([job_id]),
        )
        self.jobs = Jobs(
            store,
            calls=self.calls,
            room=room,
            fleet=self.fleet,
            checker=Checker(KindDirectory(registry, self.kinds), IdSource(self.clock.milliseconds)),
            submitter=self.submitter,
            reader=self.reader,
            waiters=self.waiters,
            cancel_here=self.executor.cancel,
            live=self.live,
            meter=meter,
        )
        self.readings = Readings(
            DepthStore(api),
            calls=self.calls,
            executor=self.executor,
            submitter=self.submitter,
            completer=self.completer,
            lease=self.lease,
            cache=cache,
            pools={"api": api, "engine": work},
        )

    def loops(self) -> Iterator[tuple[str, Callable[[], Coroutine[Any, Any, None]]]]:
        """The loops that the engine is to run, by name."""
        for name, part in (
            ("submitter", self.submitter),
            ("completer", self.completer),
            ("recorder", self.recorder),
            ("tick", self.tick),
            ("rescuer", self.rescuer),
            ("waiters", self.waiters),
            ("reader", self.reader),
            ("partitions", Partitions(self.upkeep, self.meter)),
            ("pruner", self.pruner),
            ("loop lag", LoopLag(self.meter)),
        ):
            yield name, part.run
        yield from self.live.loops()
        if self.runs:
            yield "executor", self.executor.run
            yield "reconciler", self.reconciler.run
            yield "quarantine", self.quarantine.run

    # What parts tell each other

    def _on_written(self, rows: Sequence[Written]) -> None:
        self.producers.feed()  # a queue's limit in this process counts until the end is written
        self.live.written(rows)
        for row in rows:
            if row.run_at is not None and row.state in (State.SCHEDULED, State.RETRYABLE):
                self.tick.expect(row.run_at)

    def _recall(self, queue: str) -> None:
        self.executor.give_back(queue)
        self.producers.recall(queue)

    def _on_new_lease(self) -> None:
        self.rescuer.wake()

    def _on_lost_lease(self, worker: str) -> None:
        self.heartbeat.renounce(worker)
        self.executor.stop_all(Stop.LEASE_LOST)
        held = self.holdings.take()
        if not self.live.draining:
            self.tasks.spawn("aftermath", self._settle(worker, held))

    async def _settle(self, worker: str, held: Mapping[uuid.UUID, int]) -> None:
        await self.executor.wait_idle(ABANDON_AFTER)
        await self.aftermath.settle(worker, held)

    def _make_producer(self, queue: str, limit: int | None) -> Producer:
        return Producer(
            queue,
            limit,
            kinds=self.registry.kinds,
            attempts=self.attempts,
            executor=self.executor,
            holdings=self.holdings,
            worker=self.lease.worker,
            doubt=self.reconciler.doubt,
            meter=self.meter,
        )
