"""LoopLag: how late the event loop is."""

from __future__ import annotations

import asyncio

from quarterdeck.engine.meter import Meter

EVERY = 0.25
"""Seconds between samples."""


class LoopLag:
    """Sets a timer again and again and sees how much too late it fires: a handler that blocks delays all others."""

    def __init__(self, meter: Meter, every: float = EVERY) -> None:
        self._meter = meter
        self._every = every

    async def run(self) -> None:
        """The loop."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._every
            await asyncio.sleep(self._every)
            self._meter.lagged(loop.time() - due)
