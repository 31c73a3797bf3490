"""Recorder: writes what handlers tell of their work in groups, each under its fence, and then their ends."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Collection, Iterable

import msgspec

from quarterdeck.domain.recorded import Entry
from quarterdeck.engine.completer import Completer
from quarterdeck.engine.holdings import Holdings
from quarterdeck.engine.meter import Meter
from quarterdeck.engine.recording import Clock, Recording
from quarterdeck.engine.tasks import Backoff, Signal
from quarterdeck.engine.trouble import Trouble
from quarterdeck.store import pool
from quarterdeck.store.attempts import ClaimedJob, Ended
from quarterdeck.store.recording import Mark, RecordingStore, Told
from quarterdeck.store.upkeep import UpkeepStore
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

MAX_JOBS = 250
MAX_EVENTS = 1000
MAX_SIZE = 4 * 1024 * 1024
"""Jobs, events and characters of JSON in one group; the event that crosses the last is still in it."""


class Batch(msgspec.Struct, frozen=True):
    """What is to be written of one attempt."""

    recording: Recording
    entries: list[Entry]


class Recorder:
    """Commits entries of all attempts, several together, in the order in which each attempt told them.

    A write says which seq it follows. One whose reply is lost is repeated, and changes nothing if it got through: then
    the job's seq is another, and its events tell whether that was the write or somebody else (a cancel). It gives up on
    a job only when that is not held any more, or does not run under its fence.
    """

    def __init__(
        self,
        store: RecordingStore,
        upkeep: UpkeepStore,
        holdings: Holdings,
        completer: Completer,
        *,
        told: Callable[[Collection[uuid.UUID]], object],
        meter: Meter,
        clock: Clock | None = None,
    ) -> None:
        """`told` is called with the ids of jobs that changed, after the commit."""
        self._store = store
        self._upkeep = upkeep
        self._holdings = holdings
        self._completer = completer
        self._told = told
        self._meter = meter
        self._clock = clock
        self._trouble = Trouble("recorder", meter)
        self._waiting: dict[Recording, None] = {}
        self._ending: set[Recording] = set()
        self._somebody = Signal()
        self._ended = Signal()

    def open(self, job: ClaimedJob, seq: int) -> Recording:
        """Where an attempt tells of its work; `seq` is the job's last event as it was claimed."""
        clock = self._clock or asyncio.get_running_loop()
        return Recording(job.id, job.fence, seq, put=self._put, clock=clock)

    def finish(self, recording: Recording, ended: Ended | None) -> None:
        """Takes an attempt's end, for the completer: at once, or when everything that it told is written.

        None: its lease is lost, and so is what it told.
        """
        if ended is None:
            recording.lose()
            recording.close()
        elif recording.close():
            recording.end = ended
            self._ending.add(recording)
        else:
            self._completer.finish(ended)

    async def run(self) -> None:
        """The loop: whatever was told while the last group was written is the next group."""
        while True:
            if not self._waiting:
                await self._somebody.wait()
            if group := self._group():
                await self._write(group)

    async def drain(self, timeout: float) -> bool:
        """Waits until all that ended is written, at most `timeout` seconds; says whether it is."""
        until = time.monotonic() + timeout
        while self._ending and (left := until - time.monotonic()) > 0:
            await self._ended.wait(left)
        if self._ending:
            log.warning("recorder.not_drained", jobs=len(self._ending))
        return await self._completer.drain(max(0.0, until - time.monotonic())) and not self._ending

    def _put(self, recording: Recording) -> None:
        self._waiting[recording] = None
        self._somebody.set()

    def _group(self) -> list[Batch]:
        group: list[Batch] = []
        events, size = MAX_EVENTS, MAX_SIZE
        while self._waiting and len(group) < MAX_JOBS and events > 0 and size > 0:
            recording = next(iter(self._waiting))
            del self._waiting[recording]
            if entries := recording.take(events, size):
                group.append(Batch(recording, entries))
                events -= len(entries)
                size -= sum(len(entry.data) for entry in entries)
            if recording.waits:
                self._waiting[recording] = None  # behind all others
        return group

    async def _write(self, group: list[Batch]) -> None:
        while group := [batch for batch in group if self._is_held(batch.recording)]:
            began = time.monotonic()
            try:
                recorded = await self._store.record_events([_told(batch) for batch in group])
            except Exception as error:  # noqa: BLE001 - sorted by _wait_out
                if pool.is_data_error(error) and not pool.is_missing_partition(error):
                    self._meter.database_failed(pool.error_class(error))
                    await self._halve(group, error)
                    return
                await self._wait_out(error)
                continue
            self._trouble.over()
            self._meter.statement("record_events", time.monotonic() - began, len(group))
            seqs = {row.id: row.seq for row in recorded}
            self._settle((batch, seqs[batch.recording.id]) for batch in group if batch.recording.id in seqs)
            group = await self._explain([batch for batch in group if batch.recording.id not in seqs])

    async def _halve(self, group: list[Batch], error: Exception) -> None:
        if len(group) > 1:
            middle = len(group) // 2
            halves = [group[:middle], group[middle:]]
        else:
            recording, entries = group[0].recording, group[0].entries
            if len(entries) == 1:
                log.error("job.event_refused", job_id=str(recording.id), sort=entries[0].event, error=str(error))
                self._over(recording, entries)
                return
            middle = len(entries) // 2
            halves = [[Batch(recording, entries[:middle])], [Batch(recording, entries[middle:])]]
        for half in halves:
            await self._write(half)

    async def _explain(self, missing: list[Batch]) -> list[Batch]:
        """A write changed nothing for these: an earlier try got through, a cancel came between, or they were lost.

        Returns those to be tried again.
        """
        if not missing:
            return []
        again = []
        stored = []
        marks = await self._marks(missing)
        for batch in missing:
            recording = batch.recording
            mark = marks.get(recording.id)
            if mark is None or mark.fence != recording.fence:
                log.warning("job.events_came_late", job_id=str(recording.id), fence=recording.fence)
                self._lose(recording)
            elif mark.stored:
                stored.append((batch, mark.seq))
            else:
                recording.seq = mark.seq
                again.append(batch)
        self._settle(stored)
        return again

    async def _marks(self, missing: list[Batch]) -> dict[uuid.UUID, Mark]:
        while True:
            try:
                return await self._store.recorded_events({each.recording.id: each.recording.seq for each in missing})
            except Exception as error:  # noqa: BLE001 - sorted by _wait_out
                await self._wait_out(error)

    async def _wait_out(self, error: Exception) -> None:
        if pool.is_missing_partition(error):
            self._meter.database_failed(pool.error_class(error))
            await Backoff().pause()
            try:
                await self._upkeep.ensure_partitions()
                return
            except Exception as second:  # noqa: BLE001 - sorted there
                error = second
        await self._trouble.wait_out(error)

    def _settle(self, written: Iterable[tuple[Batch, int]]) -> None:
        ids = []
        for batch, seq in written:
            batch.recording.seq = seq
            ids.append(batch.recording.id)
            self._over(batch.recording, batch.entries)
        if ids:
            self._told(ids)

    def _over(self, recording: Recording, entries: list[Entry]) -> None:
        if not recording.lost:
            recording.written(entries)
        self._end(recording)

    def _is_held(self, recording: Recording) -> bool:
        held = not recording.lost and self._holdings.has(recording.id, recording.fence)
        if not held:
            self._lose(recording)
        return held

    def _lose(self, recording: Recording) -> None:
        recording.lose()
        self._end(recording)

    def _end(self, recording: Recording) -> None:
        """Hands the attempt's end on, where there is one and nothing comes before it any more."""
        if recording.end is not None and not recording.unwritten:
            ended, recording.end = recording.end, None
            self._ending.discard(recording)
            self._completer.finish(ended)
            self._ended.set()


def _told(batch: Batch) -> Told:
    recording = batch.recording
    return Told(recording.id, recording.fence, recording.seq, batch.entries)
