"""Engine: the order in which its parts start and stop, and what callers may ask of it."""

from __future__ import annotations

import asyncio
import time

from quarterdeck.engine.attempt import Stop
from quarterdeck.engine.parts import Parts
from quarterdeck.engine.readiness import Readiness, readiness
from quarterdeck.engine.tasks import Signal
from quarterdeck.store import pool
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

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.clock = parts.clock
        self.fleet = parts.fleet
        self.job_edits = parts.job_edits
        self.job_list = parts.job_list
        self.jobs = parts.jobs
        self.live = parts.live
        self.queues = parts.queues
        self.readings = parts.readings
        self._hurry = Signal()
        self._started = False
        self._drained_at: float | None = None

    async def start(self) -> None:
        """Announces the kinds, begins the lease and starts every loop. Raises what asyncpg raises."""
        parts = self.parts
        await parts.upkeep.ensure_partitions()
        await parts.kinds.announce_kinds(parts.registry.handlers)
        parts.heartbeat.start()
        parts.tasks.spawn("heartbeat watch", self._watch_heartbeat())
        for name, loop in parts.loops():
            parts.tasks.spawn(name, loop())
        self._started = True
        parts.calls.open()
        await parts.lease.begun(LEAVE_TIMEOUT)

    def drain(self) -> None:
        """Claims nothing more, gives back what was claimed and not begun, and ends long polls. Idempotent."""
        parts = self.parts
        if self._drained_at is not None:
            return
        self._drained_at = time.monotonic()
        log.info("engine.drains", running=parts.executor.running)
        parts.heartbeat.drain()
        parts.submitter.stop_hand_off()
        parts.producers.stop()
        parts.waiters.drain()
        self.live.drain()
        parts.executor.drain()

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
        parts = self.parts
        if self._started:
            self.drain()
            await asyncio.gather(parts.submitter.close(CLOSE_TIMEOUT), self.live.topics.close(CLOSE_TIMEOUT))
            await self._end_attempts(grace - (time.monotonic() - (self._drained_at or 0.0)))
            if await parts.recorder.drain(FLUSH_TIMEOUT):
                await self._release(parts.lease.worker())
            await parts.heartbeat.stop(LEAVE_TIMEOUT)
            self._started = False
        parts.lease.close()
        await parts.tasks.cancel()
        await parts.calls.close()

    async def _end_attempts(self, grace: float) -> None:
        parts = self.parts
        idle = asyncio.create_task(parts.executor.wait_idle(grace))
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({idle, hurry}, return_when=asyncio.FIRST_COMPLETED)
        for task in (idle, hurry):
            task.cancel()
        await asyncio.gather(idle, hurry, return_exceptions=True)
        if parts.executor.running:
            log.warning("engine.interrupts", running=parts.executor.running)
            parts.executor.stop_all(Stop.SHUTDOWN)
            await parts.executor.wait_idle(INTERRUPT_TIMEOUT)

    async def _release(self, worker: str | None) -> None:
        if worker is None:
            return
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT):
                released = await self.parts.attempts.release_worker(worker)
            if released:
                log.info("jobs.released", count=len(released))
        except Exception as error:
            if not pool.is_passing(error):
                raise
            log.warning("engine.release_failed", error=str(error))

    async def death(self) -> BaseException:
        """Waits until a loop dies by an exception, which none should, and returns that."""
        return await self.parts.tasks.death()

    async def readiness(self) -> Readiness:
        """What `/readyz` tells: of the database and of the engine."""
        parts = self.parts
        return await readiness(parts.kinds, parts.calls, parts.lease, started=self._started, draining=self.draining)

    async def _watch_heartbeat(self) -> None:
        raise RuntimeError("the heartbeat thread died") from await self.parts.heartbeat.death()
