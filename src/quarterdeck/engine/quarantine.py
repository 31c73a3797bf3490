"""Quarantine: a job that was lost with two workers runs alone, so that it takes nobody along if it does it again."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from quarterdeck.engine.executor import Executor
from quarterdeck.engine.holdings import Holdings
from quarterdeck.engine.meter import Meter
from quarterdeck.engine.tasks import Signal
from quarterdeck.engine.trouble import Trouble
from quarterdeck.store.attempts import AttemptStore
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

LOOK_EVERY = 1.0
"""Seconds between looks, while what runs here ends, whether the suspect still waits for us."""


class Quarantine:
    """Runs suspects one at a time: claims nothing else, waits until nothing is held, claims the suspect, waits again.

    Which process does it is settled by the database, so that the others go on working.
    """

    def __init__(
        self,
        attempts: AttemptStore,
        *,
        executor: Executor,
        holdings: Holdings,
        worker: Callable[[], str | None],
        resume: Callable[[], None],
        meter: Meter,
    ) -> None:
        """`resume` is called when other jobs may be claimed again."""
        self._attempts = attempts
        self._executor = executor
        self._holdings = holdings
        self._worker = worker
        self._resume = resume
        self._meter = meter
        self._wanted = Signal()

    def wake(self) -> None:
        """There are suspects."""
        self._wanted.set()

    async def run(self) -> None:
        """The loop."""
        trouble = Trouble("quarantine", self._meter)
        while True:
            await self._wanted.wait()
            try:
                await self._run_suspects()
                trouble.over()
            except Exception as error:  # noqa: BLE001 - sorted there
                await trouble.wait_out(error)
            finally:
                if self._executor.secluded:
                    self._executor.secluded = False
                    self._resume()

    async def _run_suspects(self) -> None:
        while (worker := self._worker()) is not None and not self._executor.draining:
            suspect = await self._attempts.pick_suspect(worker)
            if suspect is None:
                return
            if not self._executor.secluded:
                log.warning("quarantine.begins", job_id=str(suspect), held=len(self._holdings))
                self._executor.seclude()
            if not len(self._holdings):
                await self._claim(suspect, worker)
            await self._holdings.emptied(LOOK_EVERY)

    async def _claim(self, suspect: uuid.UUID, worker: str) -> None:
        job = await self._attempts.claim_suspect(suspect, worker)
        if job is not None and self._worker() == worker:
            self._holdings.add(job.id, job.fence, job.queue)
            self._executor.accept(job, alone=True)
            while len(self._holdings):
                await self._holdings.emptied(LOOK_EVERY)
