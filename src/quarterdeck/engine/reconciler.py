"""Reconciler: gives back jobs that the database says run here and that nobody here knows."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence

from quarterdeck.domain.outcome import Transition
from quarterdeck.engine.holdings import Holdings
from quarterdeck.engine.meter import Meter
from quarterdeck.engine.tasks import Signal
from quarterdeck.engine.trouble import Trouble
from quarterdeck.store.attempts import AttemptStore, Ended, Written
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

SOON = 0.25
"""Seconds between the two looks after a doubt."""


class Reconciler:
    """Compares what the database says this worker runs with what it holds.

    A claim or a hand-off whose reply was lost leaves such jobs. One that is unknown in two looks running, with nothing
    in flight since before the first that may still bring it, is given back under its fence, its attempt refunded.
    """

    def __init__(
        self,
        attempts: AttemptStore,
        holdings: Holdings,
        *,
        worker: Callable[[], str | None],
        in_flight: Sequence[Callable[[], float | None]],
        every: float,
        on_written: Callable[[list[Written]], None],
        meter: Meter,
    ) -> None:
        """`in_flight` tell when the oldest statement was sent that may still bring jobs, on the monotonic clock."""
        self._attempts = attempts
        self._holdings = holdings
        self._worker = worker
        self._in_flight = in_flight
        self._every = every
        self._on_written = on_written
        self._meter = meter
        self._suspects: dict[uuid.UUID, int] = {}
        self._looked = 0.0
        self._suspected_worker: str | None = None
        self._doubted = Signal()

    def doubt(self) -> None:
        """A claim or a hand-off failed, and may have been committed all the same: look at once, and again soon."""
        self._doubted.set()

    async def run(self) -> None:
        """The loop."""
        trouble = Trouble("reconciler", self._meter)
        soon = 0
        while True:
            if await self._doubted.wait(SOON if soon else self._every):
                soon = 2
            worker = self._worker()
            if worker is None:
                continue
            try:
                await self.look(worker)
                soon = max(0, soon - 1)
                trouble.over()
            except Exception as error:  # noqa: BLE001 - sorted there
                await trouble.wait_out(error)

    async def look(self, worker: str) -> None:
        """One look; gives back what is unknown for the second time."""
        if worker != self._suspected_worker:
            self._suspects, self._suspected_worker = {}, worker
        running = await self._attempts.held_jobs(worker)
        # Taken after it read: what was sent later cannot have brought what it saw.
        before, self._looked = self._looked, time.monotonic()
        unknown = {job_id: fence for job_id, fence in running.items() if not self._holdings.has(job_id, fence)}
        sent = [since for oldest in self._in_flight if (since := oldest()) is not None]
        lost = [
            Ended(job_id, fence, Transition.interrupt(), unstarted=True)
            for job_id, fence in unknown.items()
            if self._suspects.get(job_id) == fence
        ]
        self._suspects = unknown
        if not lost or any(since <= before for since in sent):
            return
        given_back = await self._attempts.reschedule_jobs(lost)
        log.warning("claims.reconciled", count=len(given_back))
        self._meter.moved("reconciled", [row.queue for row in given_back])
        self._on_written(given_back)
        unwritten = {ended.id for ended in lost} - {row.id for row in given_back}
        if unwritten:  # somebody asked for their cancel meanwhile
            cancelled = [ended for ended in lost if ended.id in unwritten]
            self._on_written(await self._attempts.finish_jobs(cancelled_ends(cancelled)))


def cancelled_ends(ended: list[Ended]) -> list[Ended]:
    """The same ends as cancels."""
    return [Ended(end.id, end.fence, Transition.cancel(None)) for end in ended]
