"""Heartbeat: keeps this process's lease, from a thread and a connection of its own."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from quarterdeck.engine.meter import Meter
from quarterdeck.engine.tasks import Backoff
from quarterdeck.store import pool
from quarterdeck.store.workers import WorkerIdentity, WorkerStore
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

BEATS_PER_LEASE = 3
COMMAND_TIMEOUT = 3.0


class Beat(msgspec.Struct, frozen=True):
    """A confirmed renewal: whose lease, until when on the monotonic clock, and the database's clock."""

    worker: str
    good_until: float
    database_now: dt.datetime
    sent: float
    received: float
    beats: int


class Heartbeat:
    """A thread with its own event loop, so that a busy handler loop does not lose the lease.

    `on_beat` and `on_lost` are called in the main loop. A lease that was found over, or that could not be renewed
    before it ended, is lost for good: the process goes on under a new worker id.
    """

    def __init__(
        self,
        *,
        dsn: str,
        identity: Callable[[], WorkerIdentity],
        lease: float,
        running: Callable[[], int],
        on_beat: Callable[[Beat], None],
        on_lost: Callable[[str], None],
        meter: Meter,
    ) -> None:
        self._dsn = dsn
        self._make_identity = identity
        self._lease = lease
        self._running = running
        self._on_beat = on_beat
        self._on_lost = on_lost
        self._meter = meter
        self._main: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._stopping = False
        self._draining = False
        self._held: _Held | None = None
        self._renounced: str | None = None
        self._died: asyncio.Future[BaseException] | None = None
        self._ended: asyncio.Event | None = None

    def start(self) -> None:
        """Starts the thread; the first beat reports the registration."""
        self._main = asyncio.get_running_loop()
        self._died = self._main.create_future()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._thread_main, name="quarterdeck-heartbeat", daemon=True)
        self._thread.start()

    async def death(self) -> BaseException:
        """Waits until the thread dies by an exception, which it should not, and returns that."""
        if self._died is None:
            raise RuntimeError("the heartbeat was never started")
        return await asyncio.shield(self._died)

    def drain(self) -> None:
        """From now on the worker's row says that it is draining."""
        self._draining = True

    def renounce(self, worker: str) -> None:
        """The lease of `worker` was given up here: go on under a new id. Safe from any thread."""
        self._renounced = worker

    async def stop(self, timeout: float) -> None:
        """Deregisters and ends the thread; waits at most `timeout` seconds."""
        if self._thread is None:
            return
        self._stopping = True  # the thread looks at it once it has made its event
        if self._loop is not None and self._stop is not None:
            with suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._stop.set)
        if self._ended is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._ended.wait()

    def _thread_main(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:  # reported by whoever watches the engine
            log.critical("loop.died", loop="heartbeat", exc_info=error)
            self._tell(self._report_death, error)
        finally:
            if self._ended is not None:
                self._tell(self._ended.set)

    def _report_death(self, error: BaseException) -> None:
        if self._died is not None and not self._died.done():
            self._died.set_result(error)

    def _tell(self, call: Callable[..., None], *arguments: object) -> None:
        if self._main is None:
            return
        with suppress(RuntimeError):  # the main loop has closed: nobody is left to tell
            self._main.call_soon_threadsafe(call, *arguments)

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        if self._stopping:
            self._stop.set()
        backoff = Backoff(cap=2.0)
        while not self._stop.is_set():
            try:
                connection = await pool.open_connection(self._dsn, name="heartbeat", command_timeout=COMMAND_TIMEOUT)
                try:
                    await self._beat_on(WorkerStore(connection), backoff)
                finally:
                    connection.terminate()
            except Exception as error:
                if not pool.is_passing(error):
                    raise
                self._meter.beat_failed()
                log.warning("heartbeat.waits", error=str(error) or type(error).__name__)
                if self._held is not None:
                    self._held.beats = 0
                    if time.monotonic() >= self._held.good_until:
                        self._lose(self._held)
                await self._pause(backoff.next())

    async def _beat_on(self, workers: WorkerStore, backoff: Backoff) -> None:
        while True:
            held = self._held or await self._register(workers)
            sent, sent_at = time.monotonic(), time.time()
            now = await workers.beat_worker(held.worker, self._lease, running=self._running(), draining=self._draining)
            if now is None:
                self._lose(held)
                continue
            backoff.reset()
            held.good_until, held.beats = sent + self._lease, held.beats + 1
            self._tell(self._on_beat, Beat(held.worker, held.good_until, now, sent_at, time.time(), held.beats))
            if await self._pause(self._lease / BEATS_PER_LEASE):
                await workers.deregister_worker(held.worker)
                return
            if self._renounced == held.worker:
                self._lose(held)

    def _lose(self, held: _Held) -> None:
        log.error("lease.lost", worker=held.worker)
        self._held = None
        self._tell(self._on_lost, held.worker)

    async def _register(self, workers: WorkerStore) -> _Held:
        identity = self._make_identity()
        sent = time.monotonic()
        await workers.register_worker(identity, self._lease)
        log.info("worker.registered", worker=identity.id)
        self._held = _Held(identity.id, sent + self._lease)
        return self._held

    async def _pause(self, seconds: float) -> bool:
        stop = self._stop or asyncio.Event()
        try:
            async with asyncio.timeout(seconds):
                await stop.wait()
        except TimeoutError:
            return False
        return True


class _Held:
    """The lease this thread renews."""

    def __init__(self, worker: str, good_until: float) -> None:
        self.worker = worker
        self.good_until = good_until
        self.beats = 0
