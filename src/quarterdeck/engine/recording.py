"""Recording: what one attempt tells, from the call of its handler to the commit."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from quarterdeck.domain.errors import ResultError
from quarterdeck.domain.recorded import Entry, log_entry, progress_entry
from quarterdeck.store.attempts import Ended

PROGRESS_INTERVAL = 0.1
"""Seconds from one progress of an attempt to the next. It doubles with every PROGRESS_STEP of them."""
PROGRESS_STEP = 1000
LONGEST_INTERVAL = 60.0

MAX_UNWRITTEN = 100
"""Entries of an attempt that wait to be written; with more, or more bytes, its handler waits."""
MAX_UNWRITTEN_BYTES = 1024 * 1024

MAX_LINES = 10_000
MAX_OUTPUTS = 1000
MAX_OUTPUT_BYTES = 16 * 1024 * 1024
LAST_LINE = f"further lines are dropped: an attempt may log {MAX_LINES}"


class Clock(Protocol):
    """What measures the intervals: the event loop."""

    def time(self) -> float:
        """Seconds since some moment."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Any:
        """Calls back in `delay` seconds; what it returns can be cancelled."""


def interval(stored: int) -> float:
    """Seconds that a progress has to itself, after so many of them in the attempt."""
    return min(LONGEST_INTERVAL, PROGRESS_INTERVAL * 2.0 ** min(stored // PROGRESS_STEP, 30))


class Recording:
    """Takes what a handler tells, in order.

    Only of progress the latest counts: one that comes too soon after another, or while another is not written yet,
    waits, and the next one takes its place. So a progress never makes its handler wait for the database, but lines and
    outputs do where many are unwritten.
    """

    __slots__ = (
        "_bytes",
        "_clock",
        "_closed",
        "_freed",
        "_lines",
        "_next",
        "_output_bytes",
        "_outputs",
        "_pending",
        "_progressing",
        "_put",
        "_queue",
        "_stored",
        "_timer",
        "_unwritten",
        "end",
        "fence",
        "id",
        "lost",
        "seq",
    )

    def __init__(
        self, job_id: uuid.UUID, fence: int, seq: int, *, put: Callable[[Recording], None], clock: Clock
    ) -> None:
        """`seq` is the job's last event; `put` is called when there is something to write."""
        self.id = job_id
        self.fence = fence
        self.seq = seq
        self.end: Ended | None = None
        """How the attempt ended, to be written once everything else is."""
        self.lost = False
        """Whether the job is not ours any more: nothing is taken, and nothing refused."""
        self._put = put
        self._clock = clock
        self._closed = False
        self._queue: deque[Entry] = deque()
        self._unwritten = 0
        self._bytes = 0
        self._freed: asyncio.Event | None = None
        self._pending: tuple[float, str | None] | None = None
        self._progressing = 0
        self._stored = 0
        self._next = float("-inf")
        self._timer: Any = None
        self._lines = 0
        self._outputs = 0
        self._output_bytes = 0

    # For the handler

    async def progress(self, fraction: float, message: str | None) -> None:
        """Takes how far the job is, in place of one that still waits for its turn."""
        if self._takes():
            self._pending = (fraction, message)
            self._offer()
        await asyncio.sleep(0)  # a handler that only tells lets others run, and can be stopped

    async def log(self, level: str, message: str) -> None:
        """Takes a line. Waits while many entries are unwritten. Past MAX_LINES, lines are dropped."""
        if self._takes() and self._lines <= MAX_LINES:
            await self._room()
            self._lines += 1
            if self._lines <= MAX_LINES:
                self._add(log_entry(level, message))
            elif self._lines == MAX_LINES + 1:
                self._add(log_entry("warning", LAST_LINE))
        await asyncio.sleep(0)

    async def output(self, entry: Entry) -> None:
        """Takes a value. Waits while many entries are unwritten. Raises ResultError for one too many, or too much."""
        if self._takes():
            await self._room()
            size = len(entry.data.encode())
            if self._outputs == MAX_OUTPUTS:
                raise ResultError(f"an attempt may put out {MAX_OUTPUTS} values")
            if self._output_bytes + size > MAX_OUTPUT_BYTES:
                raise ResultError(f"the outputs of an attempt may take {MAX_OUTPUT_BYTES} bytes of JSON")
            self._outputs += 1
            self._output_bytes += size
            self._add(entry)
        await asyncio.sleep(0)

    # For the recorder

    @property
    def unwritten(self) -> int:
        """How many entries are not written yet, those under way included."""
        return self._unwritten

    @property
    def waits(self) -> bool:
        """Whether there is something to take."""
        return bool(self._queue)

    def take(self, most: int, size: int) -> list[Entry]:
        """The next entries to write: at least one where there is one, and no more after `size` characters."""
        taken: list[Entry] = []
        while self._queue and len(taken) < most and (size > 0 or not taken):
            taken.append(self._queue.popleft())
            size -= len(taken[-1].data)
        return taken

    def written(self, entries: list[Entry]) -> None:
        """These were written, or dropped."""
        self._unwritten -= len(entries)
        self._bytes -= sum(len(entry.data) for entry in entries)
        self._progressing -= sum(entry.event == "progress" for entry in entries)
        if self._freed is not None:
            self._freed.set()
        if not (self._closed or self.lost):
            self._offer()

    def close(self) -> bool:
        """The handler has ended, or was abandoned: takes the progress that waits, and nothing more after it.

        Returns whether anything is unwritten.
        """
        self._settle()
        if self._pending is not None and not self.lost:
            self._add_progress()
        self._closed = True
        return self._unwritten > 0

    def lose(self) -> None:
        """The job is not ours any more: forgets everything that is unwritten."""
        self._settle()
        self.lost = True
        self._pending = None
        self._queue.clear()
        self._unwritten = self._bytes = self._progressing = 0
        if self._freed is not None:
            self._freed.set()

    def _settle(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _takes(self) -> bool:
        if self._closed:
            raise RuntimeError("the attempt has ended: nothing more is recorded")
        return not self.lost

    async def _room(self) -> None:
        while self._unwritten >= MAX_UNWRITTEN or self._bytes >= MAX_UNWRITTEN_BYTES:
            if self._freed is None:
                self._freed = asyncio.Event()
            self._freed.clear()
            await self._freed.wait()
            self._takes()

    def _offer(self) -> None:
        """Adds the progress that waits, if it is its turn; else sees to it that this is asked again."""
        if self._pending is None or self._progressing or self._timer is not None:
            return
        left = self._next - self._clock.time()
        if left > 0:
            self._timer = self._clock.call_later(left, self._due)
        else:
            self._add_progress()

    def _due(self) -> None:
        self._timer = None
        self._offer()

    def _add_progress(self) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._stored += 1
            self._progressing += 1
            self._next = self._clock.time() + interval(self._stored)
            self._add(progress_entry(*pending))

    def _add(self, entry: Entry) -> None:
        if not self.lost:
            self._queue.append(entry)
            self._unwritten += 1
            self._bytes += len(entry.data)
            self._put(self)
