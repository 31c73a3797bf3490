"""Executor: runs claimed jobs in a fixed number of slots."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Protocol

import msgspec

from quarterdeck.clock import DatabaseClock
from quarterdeck.domain.errors import ArgsError
from quarterdeck.domain.handler import JobContext
from quarterdeck.domain.outcome import AttemptFacts, Interrupted, Outcome, Rejected, decide
from quarterdeck.domain.retry import DEFAULT_RETRY, RetryPolicy
from quarterdeck.engine.attempt import Attempt, Stop, error_record
from quarterdeck.engine.holdings import Holdings
from quarterdeck.engine.meter import Meter
from quarterdeck.engine.recorder import Recorder
from quarterdeck.engine.registry import Registry
from quarterdeck.engine.tasks import Signal
from quarterdeck.store.attempts import ClaimedJob, Ended
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

MAX_PREFETCH = 1000
PREFETCH_SECONDS = 0.1
_RATE_WINDOW = 0.05


class Finish(Protocol):
    """Where ended attempts go: the completer."""

    def finish(self, ended: Ended) -> None:
        """Takes an end to be written."""


class Executor:
    """Takes jobs from its ready queue (`asyncio.Queue`) and runs each as soon as a slot is free.

    `demand` says how many more jobs are worth claiming: free slots, and as many as will begin within about 100 ms.
    """

    def __init__(
        self,
        slots: int,
        *,
        registry: Registry,
        holdings: Holdings,
        completer: Finish,
        recorder: Recorder,
        clock: DatabaseClock,
        resources: Mapping[str, Any],
        submit: Callable[..., Any],
        meter: Meter,
        publish: Callable[..., Awaitable[Any]] | None = None,
    ) -> None:
        """`publish` is called with a topic, what to publish, and the tenant by name."""
        self.slots = slots
        self.secluded = False
        """Whether what comes from now on is to run alone: nothing else is worth claiming."""
        self.hungry: Callable[[], None] = lambda: None
        self.claimed: Callable[[Collection[uuid.UUID]], None] = lambda _: None
        """Hears of jobs that were just claimed."""
        self._registry = registry
        self._holdings = holdings
        self._completer = completer
        self._recorder = recorder
        self._clock = clock
        self._resources = resources
        self._submit = submit
        self._publish = publish
        self._meter = meter
        self._ready: asyncio.Queue[ClaimedJob] = asyncio.Queue(slots + MAX_PREFETCH)
        self._running: dict[uuid.UUID, Attempt] = {}
        self._again: dict[uuid.UUID, ClaimedJob] = {}
        self._abandoned: set[asyncio.Task[None]] = set()
        self._reserved = 0
        self.draining = False
        self._freed = Signal()
        self._idle = Signal()
        self._started = 0
        self._window = (time.monotonic(), 0)
        self._rate = 0.0

    @property
    def running(self) -> int:
        """How many attempts occupy a slot."""
        return len(self._running)

    @property
    def prefetched(self) -> int:
        """How many claimed jobs wait for a slot."""
        return self._ready.qsize()

    @property
    def abandoned(self) -> int:
        """How many handlers would not stop when told to, and still run."""
        return len(self._abandoned)

    def knows(self, kind: str) -> bool:
        """Whether this process has a handler for `kind`."""
        return self._registry.get(kind) is not None

    def free_slots(self) -> int:
        """Slots that nothing runs in, is ready for, or is reserved for."""
        return 0 if self.secluded else self.slots - len(self._running) - self._ready.qsize() - self._reserved

    def demand(self) -> int:
        """How many more jobs are worth claiming now."""
        self._measure()
        if self.secluded:
            return 0
        prefetch = min(MAX_PREFETCH, int(self._rate * PREFETCH_SECONDS))
        return self.free_slots() + prefetch

    def _measure(self) -> None:
        since, started = self._window
        elapsed = time.monotonic() - since
        if elapsed >= _RATE_WINDOW:
            self._rate = (self._rate + (self._started - started) / elapsed) / 2
            self._window = (time.monotonic(), self._started)

    def reserve(self, wanted: int) -> int:
        """Keeps up to `wanted` free slots for jobs about to be handed off; returns how many."""
        granted = max(0, min(wanted, self.free_slots()))
        self._reserved += granted
        return granted

    def expect(self, count: int) -> None:
        """Keeps room for a claim in flight, granted by `demand`."""
        self._reserved += count

    def unreserve(self, count: int) -> None:
        """Gives back what `reserve` or `expect` kept."""
        self._reserved -= count
        if count:
            self.hungry()

    def accept(self, job: ClaimedJob, *, alone: bool = False) -> None:
        """Takes a claimed job, already held. There is room for everything that `demand` and `reserve` granted.

        One that comes while this process drains goes straight back, and so does one that is not to run `alone` and
        comes, by a claim that was under way, while others have to.
        """
        self.claimed((job.id,))
        if self.draining or (self.secluded and not alone):
            self._completer.finish(_ended(job, Interrupted(), unstarted=True))
        else:
            self._ready.put_nowait(job)

    async def run(self) -> None:
        """The loop: one job after another into a free slot."""
        while True:
            while len(self._running) >= self.slots:
                await self._freed.wait()
            job = await self._ready.get()
            if not self._holdings.has(job.id, job.fence):
                continue  # the lease was lost while it waited
            if self._holdings.is_unwanted(job.id):
                self._completer.finish(_ended(job, Interrupted(), cancel_requested=True))
                continue
            if job.id in self._running:
                self._again[job.id] = job  # its last run, under a lease that was lost, still stops
                continue
            self._begin(job)

    def _begin(self, job: ClaimedJob) -> None:
        self._started += 1
        handler = self._registry.get(job.kind)
        if handler is None:
            self._report_unbegun(job, Interrupted())
            return
        try:
            kwargs = handler.bind(job.args)
        except ArgsError as error:
            record = error_record(job.attempt, self._clock.now(), error)
            self._report_unbegun(job, Rejected(record, str(error)))
            return
        context = recording = None
        if handler.wants_context:
            deadline = None if job.timeout is None else self._clock.now() + dt.timedelta(seconds=job.timeout)
            document = job.job()
            recording = self._recorder.open(job, document.seq)
            submit = self._submit_child(job)
            context = JobContext(
                document,
                deadline,
                self._resources,
                submit,
                fence=job.fence,
                recording=recording,
                publish=self._publish,
            )
            kwargs["ctx"] = context
        attempt = Attempt(
            job, handler, kwargs, context=context, now=self._clock.now, report=self._report, recording=recording
        )
        self._running[job.id] = attempt
        attempt.begin()
        # Cheaper than two datetimes and their difference.
        self._meter.started(job.queue, job.kind, self._clock.milliseconds() / 1000 - job.run_at.timestamp())

    def _submit_child(self, job: ClaimedJob) -> Callable[..., Any]:
        async def submit(kind: str, args: Mapping[str, Any] | None = None, **options: Any) -> Any:
            return await self._submit(kind, args, parent=job.id, tenant=job.tenant, **options)

        return submit

    def _report_unbegun(self, job: ClaimedJob, outcome: Outcome) -> None:
        self._completer.finish(_ended(job, outcome, unstarted=isinstance(outcome, Interrupted)))
        self.hungry()

    def _report(self, attempt: Attempt, outcome: Outcome | None) -> None:
        job = attempt.job
        del self._running[job.id]
        if (again := self._again.pop(job.id, None)) is not None:
            self.accept(again)
        if attempt.task is not None and not attempt.task.done():
            self._abandoned.add(attempt.task)
            attempt.task.add_done_callback(self._abandoned.discard)
            self._meter.abandoned(job.kind)
            log.warning("job.abandoned", job_id=str(job.id), kind=job.kind, attempt=job.attempt)
        ended = None
        if outcome is not None:
            ended = _ended(job, outcome, cancel_requested=attempt.cancel_requested, ran=attempt.ran)
        if attempt.recording is not None:
            self._recorder.finish(attempt.recording, ended)
        elif ended is not None:
            self._completer.finish(ended)
        self._freed.set()
        if not self._running:
            self._idle.set()
        self.hungry()

    def cancel(self, job_id: uuid.UUID) -> bool:
        """Stops a job because somebody asked for it, whether it runs or waits to begin; False where it is not here."""
        attempt = self._running.get(job_id)
        if attempt is None:
            return self._holdings.mark_unwanted(job_id)
        attempt.stop(Stop.CANCEL)
        return True

    def give_back(self, queue: str | None = None) -> None:
        """Gives back what was claimed, of one queue or of all, and not begun."""
        for _ in range(self._ready.qsize()):
            job = self._ready.get_nowait()
            if queue is None or job.queue == queue:
                self._completer.finish(_ended(job, Interrupted(), unstarted=True))
            else:
                self._ready.put_nowait(job)

    def seclude(self) -> None:
        """From now on nothing is worth claiming, and what was claimed and not begun is given back."""
        self.secluded = True
        self.give_back()

    def drain(self) -> None:
        """Begins nothing more, and gives back what was claimed and not begun."""
        self.draining = True
        self.give_back()

    def stop_all(self, why: Stop) -> None:
        """Tells every running handler to stop."""
        if why is Stop.LEASE_LOST:
            while not self._ready.empty():
                self._ready.get_nowait()
        for attempt in list(self._running.values()):
            attempt.stop(why)

    async def wait_idle(self, timeout: float) -> bool:
        """Waits until nothing runs, at most `timeout` seconds; says whether nothing does."""
        ends = time.monotonic() + timeout
        while self._running and (left := ends - time.monotonic()) > 0:
            await self._idle.wait(left)
        return not self._running


def _ended(
    job: ClaimedJob,
    outcome: Outcome,
    *,
    unstarted: bool = False,
    cancel_requested: bool = False,
    ran: float | None = None,
) -> Ended:
    retry = DEFAULT_RETRY if job.retry is None else msgspec.convert(job.retry, RetryPolicy)
    facts = AttemptFacts(job.attempt, job.max_attempts, retry, cancel_requested)
    return Ended(job.id, job.fence, decide(facts, outcome, random.random()), unstarted, job.queue, job.kind, ran)
