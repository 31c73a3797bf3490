"""Handlers that tell of their work, for services in processes of their own."""

import asyncio
from pathlib import Path

from quarterdeck import Cancel, JobContext, Quarterdeck

deck = Quarterdeck()


@deck.handler()
async def tell(ctx: JobContext, path: str) -> str:
    """Tell of every step, until there is a file at `path`."""
    step = 0
    while not Path(path).exists():  # noqa: ASYNC240 (nothing else can reach into this process)
        step += 1
        await ctx.log(f"step {step}")
        await ctx.progress(1 - 1 / step, f"{step} steps")
        await asyncio.sleep(0.02)
    return "told"


@deck.handler(max_attempts=1)
async def fail() -> None:
    """Fail, with a text that a terminal would obey."""
    raise ValueError("no \x1b[2J")


@deck.handler()
async def give_up(ctx: JobContext) -> Cancel:
    """Write something, and give up."""
    await ctx.output({"n": 1})
    return Cancel("no use")
