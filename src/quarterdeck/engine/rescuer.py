"""Rescuer: takes jobs back from workers that are gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from quarterdeck.engine.meter import Meter
from quarterdeck.engine.tasks import Signal
from quarterdeck.engine.trouble import Trouble
from quarterdeck.store.attempts import Written
from quarterdeck.store.upkeep import UpkeepStore
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

BATCH = 500


class Rescuer:
    """Buries workers whose lease is over and frees their jobs. Any replica does; nothing depends on a leader.

    It acts only after two good beats of its own since the database came back: after an outage every lease looks over,
    and live workers get the time to renew theirs.
    """

    def __init__(
        self,
        upkeep: UpkeepStore,
        may_rescue: Callable[[], bool],
        on_written: Callable[[Sequence[Written]], None],
        on_work: Callable[[set[str]], None],
        meter: Meter,
    ) -> None:
        self._upkeep = upkeep
        self._may_rescue = may_rescue
        self._on_written = on_written
        self._on_work = on_work
        self._meter = meter
        self._wanted = Signal()

    def wake(self) -> None:
        """A lease is over, or a running job has no worker."""
        self._wanted.set()

    async def run(self) -> None:
        """The loop."""
        trouble = Trouble("rescuer", self._meter)
        while True:
            await self._wanted.wait()
            if not self._may_rescue():
                continue
            try:
                await self._rescue()
                trouble.over()
            except Exception as error:  # noqa: BLE001 - sorted there
                await trouble.wait_out(error)

    async def _rescue(self) -> None:
        for lost in await self._upkeep.bury_workers():
            log.warning("worker.lost", worker=lost.id, host=lost.host, pid=lost.pid)
        while rescued := await self._upkeep.rescue_jobs(BATCH):
            log.warning("jobs.rescued", count=len(rescued))
            self._meter.moved("rescued", [row.queue for row in rescued])
            self._on_written(rescued)
            self._on_work({row.queue for row in rescued})
            if len(rescued) < BATCH:
                break
