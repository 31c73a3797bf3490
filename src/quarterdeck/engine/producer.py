"""Producer: claims the jobs of one queue as fast as they can be run, and no faster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from quarterdeck.engine.executor import Executor
from quarterdeck.engine.holdings import Holdings
from quarterdeck.engine.meter import Meter
from quarterdeck.engine.tasks import Signal
from quarterdeck.engine.trouble import Trouble
from quarterdeck.store.attempts import AttemptStore, ClaimedJob
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

MAX_CLAIM = 250


class Producer:
    """The claiming loop of one queue.

    It sleeps until somebody says that the queue has work (the tick, a submit, a promotion), claims while claims come
    back full, and waits for free slots in between. It never polls by itself.
    """

    def __init__(
        self,
        queue: str,
        limit: int | None,
        *,
        kinds: list[str],
        attempts: AttemptStore,
        executor: Executor,
        holdings: Holdings,
        worker: Callable[[], str | None],
        doubt: Callable[[], None],
        meter: Meter,
    ) -> None:
        self.queue = queue
        self._limit = limit
        self._kinds = kinds
        self._attempts = attempts
        self._executor = executor
        self._holdings = holdings
        self._worker = worker
        self._doubt = doubt
        self._meter = meter
        self._work = Signal()
        self._room = Signal()
        self._stopping = False
        self._recalled = False
        self.claiming_since: float | None = None

    def wake(self) -> None:
        """The queue has work."""
        self._work.set()

    def feed(self) -> None:
        """A slot became free."""
        self._room.set()

    def recall(self) -> None:
        """The queue was paused: what a claim under way brings goes straight back."""
        self._recalled = True

    def stop(self) -> None:
        """Claims nothing more; the loop ends after the claim in flight."""
        self._stopping = True
        self._work.set()
        self._room.set()

    def demand(self) -> int:
        """How many jobs of this queue to claim now."""
        demand = min(self._executor.demand(), MAX_CLAIM)
        return demand if self._limit is None else min(demand, self._limit - self._holdings.of_queue(self.queue))

    async def run(self) -> None:
        """The loop."""
        trouble = Trouble(f"producer of {self.queue}", self._meter)
        while not self._stopping:
            await self._work.wait()
            more = True
            while more and not self._stopping:
                wanted = self.demand()
                if wanted <= 0:
                    await self._room.wait()
                    continue
                try:
                    more = await self._claim(wanted) >= wanted
                    trouble.over()
                except Exception as error:  # noqa: BLE001 - sorted there
                    self._doubt()
                    await trouble.wait_out(error)

    async def _claim(self, wanted: int) -> int:
        worker = self._worker()
        if worker is None:  # no lease just now: the tick wakes us again
            return 0
        self._recalled = False
        self.claiming_since = began = time.monotonic()
        self._executor.expect(wanted)
        try:
            jobs = await self._attempts.claim_jobs(self.queue, wanted, worker, self._kinds)
        finally:
            self.claiming_since = None
            self._executor.unreserve(wanted)
        self._meter.statement("claim_jobs", time.monotonic() - began, len(jobs))
        if self._worker() != worker:
            log.warning("claim.came_late", queue=self.queue, jobs=len(jobs))
            return 0
        for job in jobs:
            self._take(job)
        if self._recalled:
            self._executor.give_back(self.queue)
        await asyncio.sleep(0)
        return len(jobs)

    def _take(self, job: ClaimedJob) -> None:
        self._holdings.add(job.id, job.fence, job.queue)
        self._executor.accept(job)
