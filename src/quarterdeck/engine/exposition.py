"""Exposition: the text of `/metrics`, made at most once a second whoever asks how often."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Protocol

from quarterdeck.domain.errors import Unavailable
from quarterdeck.store.depths import QueueDepth
from quarterdeck.telemetry.metrics import MAX_VALUES, Format, Gauges, Metrics
from quarterdeck.telemetry.tallies import OTHER

TTL = 1.0
"""Seconds for which an answer is given again."""
REST = 5.0
"""Times as long as it took to count the jobs in the database, for which that count is given again."""

_DOWN: Gauges = {"database_up": {(): 0.0}}


class Source(Protocol):
    """Where gauges are read: the engine."""

    def gauges(self) -> Gauges:
        """What this process knows of itself."""

    async def depths(self) -> list[QueueDepth]:
        """What the database holds. Raises Unavailable."""


class Exposition:
    """Reads the gauges and renders all metrics, off the event loop. Works without an engine, too."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._one = asyncio.Lock()
        self._texts: dict[Format, tuple[float, bytes]] = {}
        self._counted: Gauges = {}
        self._count_at = 0.0

    async def text(self, format: Format, source: Source | None) -> bytes:  # noqa: A002 - what it is
        """The metrics as text, at most a second old."""
        async with self._one:
            made = self._texts.get(format)
            if made is None or time.monotonic() - made[0] >= TTL:
                gauges = await self._gauges(source)
                text = await asyncio.to_thread(self._metrics.render, format, gauges)
                made = self._texts[format] = (time.monotonic(), text)
            return made[1]

    async def _gauges(self, source: Source | None) -> Gauges:
        if source is None:
            return _DOWN
        began = time.monotonic()
        if began >= self._count_at:
            try:
                self._counted = of_depths(await source.depths())
            except Unavailable:
                self._counted = _DOWN
            now = time.monotonic()
            self._count_at = now + max(TTL, (now - began) * REST)
        return {**self._counted, **source.gauges()}


def of_depths(depths: list[QueueDepth]) -> dict[str, Mapping[tuple[str, ...], float]]:
    """The gauges of the queues. Beyond the fullest ones, they are one."""
    jobs: dict[tuple[str, ...], float] = {}
    ages: dict[tuple[str, ...], float] = {}
    fullest = sorted(depths, key=lambda each: (-sum(each.jobs.values()), each.queue))
    for place, each in enumerate(fullest):
        queue = each.queue if place < MAX_VALUES else OTHER
        for state, count in each.jobs.items():
            jobs[queue, state] = jobs.get((queue, state), 0) + count
        if each.oldest_available is not None:
            ages[(queue,)] = max(ages.get((queue,), 0.0), each.oldest_available)
    return {"queue_jobs": jobs, "queue_oldest_available_seconds": ages, "database_up": {(): 1.0}}
