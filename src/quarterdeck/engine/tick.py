"""Tick: the one poll of a process, and the timer for the next job that comes due."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import uuid
from collections.abc import Callable, Iterable, Sequence

from quarterdeck.engine.meter import Meter
from quarterdeck.engine.tasks import Signal
from quarterdeck.engine.trouble import Trouble
from quarterdeck.store.attempts import Written
from quarterdeck.store.upkeep import Look, UpkeepStore

INTERVAL = (0.7, 1.3)
"""Seconds between looks, drawn evenly, so that replicas do not look in step."""
BATCH = 1000


class Tick:
    """Looks at the database about once a second and acts on what it sees.

    Everything else that wakes the engine is a hint; this alone is enough to be correct.
    """

    def __init__(
        self,
        upkeep: UpkeepStore,
        worker: Callable[[], str | None],
        now: Callable[[], dt.datetime],
        *,
        on_work: Callable[[Iterable[str]], None],
        on_cancel: Callable[[uuid.UUID], object],
        on_lapsed: Callable[[], None],
        on_written: Callable[[Sequence[Written]], None],
        meter: Meter,
    ) -> None:
        self._upkeep = upkeep
        self._worker = worker
        self._now = now
        self._on_work = on_work
        self._on_cancel = on_cancel
        self._on_lapsed = on_lapsed
        self._on_written = on_written
        self._meter = meter
        self.on_suspects: Callable[[], None] = lambda: None
        self.on_bounded: Callable[[Iterable[str]], None] = lambda _: None
        self.by_hand = False
        """Whether somebody else promotes and expires jobs, who wants to see them as they were before."""
        self._sooner = Signal()
        self._next_due: dt.datetime | None = None

    def expect(self, run_at: dt.datetime) -> None:
        """A job comes due at `run_at`: look then, if that is before the next look."""
        if self._next_due is None or run_at < self._next_due:
            self._next_due = run_at
            self._sooner.set()

    async def run(self) -> None:
        """The loop."""
        trouble = Trouble("tick", self._meter)
        while True:
            try:
                await self._look()
                trouble.over()
            except Exception as error:  # noqa: BLE001 - sorted there
                await trouble.wait_out(error)
                continue
            await self._rest(asyncio.get_running_loop().time() + random.uniform(*INTERVAL))

    async def _rest(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        while (left := until - loop.time()) > 0:
            if self._next_due is not None:
                left = min(left, (self._next_due - self._now()).total_seconds())
                if left <= 0:
                    return
            await self._sooner.wait(left)

    async def _look(self) -> None:
        look = await self._upkeep.tick(self._worker() or "")
        self._next_due = look.next_due
        self.on_bounded(look.bounded)
        for job_id in look.cancelling:
            self._on_cancel(job_id)
        if look.lapsed:
            self._on_lapsed()
        if look.suspects:
            self.on_suspects()
        await self._act(look)
        self._on_work(look.queues)

    async def _act(self, look: Look) -> None:
        if self.by_hand:
            self._next_due = None
            return
        if look.next_due is not None and look.next_due <= look.now:
            promoted = await self._upkeep.promote_jobs(BATCH)
            # Jobs that another process holds locked are its to promote: the next look is the usual one.
            self._next_due = look.now if len(promoted) == BATCH else None
            self._meter.moved("promoted", [row.queue for row in promoted])
            self._on_written(promoted)
            self._on_work({row.queue for row in promoted})
        if look.expired:
            expired = await self._upkeep.expire_jobs(BATCH)
            self._meter.moved("expired", [row.queue for row in expired])
            self._on_written(expired)
