"""What the benchmark of the live channel runs."""

from __future__ import annotations

import asyncio

from quarterdeck import JobContext, Quarterdeck

deck = Quarterdeck()


@deck.handler(timeout=None)
async def talk(ctx: JobContext, lines: int, pause: float = 0.0) -> int:
    """Logs so many lines, with a pause after each."""
    for number in range(lines):
        await ctx.log(f"line {number}")
        if pause:
            await asyncio.sleep(pause)
    return lines
