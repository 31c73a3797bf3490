"""Aftermath: what a process does about the jobs of a lease that it lost, once it is back."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence

from quarterdeck.engine.meter import Meter
from quarterdeck.engine.trouble import Trouble
from quarterdeck.store.attempts import AttemptStore, Written
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)


class Aftermath:
    """Gives back what nobody has taken yet; of the rest, takes back the crashes: this worker was away, not dead."""

    def __init__(self, attempts: AttemptStore, on_written: Callable[[Sequence[Written]], None], meter: Meter) -> None:
        self._attempts = attempts
        self._on_written = on_written
        self._meter = meter

    async def settle(self, worker: str, held: Mapping[uuid.UUID, int]) -> None:
        """Settles the jobs of a lost lease: fences by id. Waits for a database that is out."""
        trouble = Trouble("aftermath", self._meter)
        while True:
            try:
                await self._settle(worker, held)
                return
            except Exception as error:  # noqa: BLE001 - sorted there
                await trouble.wait_out(error)

    async def _settle(self, worker: str, held: Mapping[uuid.UUID, int]) -> None:
        released = await self._attempts.release_worker(worker)
        self._on_written(released)
        given_back = {row.id for row in released}
        rest = {job_id: fence for job_id, fence in held.items() if job_id not in given_back}
        forgiven = await self._attempts.forgive_crashes(rest) if rest else []
        if released or forgiven:
            log.info("lease.settled", worker=worker, released=len(released), forgiven=len(forgiven))
