"""Lease: who this process is just now, and what happens when it cannot be sure of that any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from quarterdeck.clock import DatabaseClock
from quarterdeck.engine.heartbeat import Beat
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

MARGIN = 0.1
"""The part of a lease kept as distance between fencing ourselves and the lease's end."""


GOOD_BEATS = 2
"""Beats since the database came back before this process may call others dead."""


class Lease:
    """The main loop's view of the lease.

    A timer in the handlers' own loop, armed anew by each confirmed beat, fences this process before anybody else may
    take its jobs: its handlers are cancelled and its holdings forgotten.
    """

    def __init__(
        self,
        seconds: float,
        clock: DatabaseClock,
        on_new: Callable[[], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._on_new = on_new
        self._on_lost = on_lost
        self._worker: str | None = None
        self._lost: str | None = None
        self._beats = 0
        self._beaten_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._first = asyncio.Event()

    def worker(self) -> str | None:
        """The worker id to claim under; None while there is no lease."""
        return self._worker

    async def begun(self, timeout: float) -> None:
        """Waits for the first beat, at most `timeout` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._first.wait()

    def age(self) -> float | None:
        """Seconds since the last confirmed beat was sent; None while there is no lease."""
        return None if self._worker is None else time.monotonic() - self._beaten_at

    def may_rescue(self) -> bool:
        """Whether this process has beaten twice since the database came back."""
        return self._worker is not None and self._beats >= GOOD_BEATS

    def beat(self, beat: Beat) -> None:
        """A renewal was confirmed."""
        self._clock.observe(beat.database_now, beat.sent, beat.received)
        if beat.worker == self._lost:
            return  # already given up here; the heartbeat is about to take a new id
        self._beats = beat.beats
        self._beaten_at = beat.good_until - self._seconds
        self._disarm()
        left = beat.good_until - time.monotonic() - self._seconds * MARGIN
        self._timer = asyncio.get_running_loop().call_later(max(0.0, left), self.lose, beat.worker)
        if beat.worker != self._worker:
            self._worker = beat.worker
            self._first.set()
            self._on_new()

    def lose(self, worker: str) -> None:
        """The lease of `worker` ended, or is about to."""
        if worker != self._worker:
            return
        self._disarm()
        self._worker, self._lost, self._beats = None, worker, 0
        log.error("worker.fenced", worker=worker)
        self._on_lost(worker)

    def close(self) -> None:
        """No timers from now on."""
        self._disarm()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
