"""One measurement: a stretch of work on the clock, and how long its single steps took."""

from __future__ import annotations

import gc
import time
from collections import defaultdict
from collections.abc import Awaitable
from typing import TypeVar

import msgspec

T = TypeVar("T")


class Sample(msgspec.Struct, frozen=True):
    """What one case took in one round; seconds everywhere.

    `cpu` is the processor time of this Python process, all threads, or of the one that serves HTTP; the database
    server's is not in it. `latencies` holds every
    single duration, by the name of the step.
    """

    name: str
    jobs: int
    seconds: float
    cpu: float
    latencies: dict[str, list[float]]


class Stopwatch:
    """Runs from `start` to `stop`; in between, `timed` notes how long single steps take."""

    def __init__(self) -> None:
        self._latencies: defaultdict[str, list[float]] = defaultdict(list)
        self._wall = self._cpu = 0.0
        self._wall_end = self._cpu_end = 0.0

    def start(self) -> None:
        """Begins, with no garbage of earlier cases left to collect."""
        gc.collect()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Ends."""
        self._wall_end, self._cpu_end = time.perf_counter(), time.process_time()

    async def timed(self, step: str, work: Awaitable[T]) -> T:
        """Awaits `work` and notes how long that took."""
        begun = time.perf_counter()
        done = await work
        self._latencies[step].append(time.perf_counter() - begun)
        return done

    def sample(self, name: str, jobs: int) -> Sample:
        """What was measured, once it has stopped."""
        return Sample(name, jobs, self._wall_end - self._wall, self._cpu_end - self._cpu, dict(self._latencies))
