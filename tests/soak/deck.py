"""The handlers of the soak: `qd serve tests.soak.deck:deck`. Each keeps its account in the ledger."""

from __future__ import annotations

import asyncio

from quarterdeck import Cancel, JobContext, Quarterdeck, Snooze
from tests.soak.ledger import Ledger

STEP = 0.2
"""Seconds between two lines of a handler that takes its time."""
FIRST_CLAIMS = 3
"""No job's first claim that follows an undisturbed submit has a higher seq."""
TELLING = 5
"""One in so many plain jobs tells of itself, and one in so many steps has an output."""
SOON = {"backoff": "fixed", "base": 0.3}

deck = Quarterdeck()
ledger = Ledger()


@deck.handler()
async def plain(ctx: JobContext, number: int) -> dict[str, int]:
    """Ends at once."""
    with ledger.execution(ctx) as account:
        if number % TELLING == 0:
            await ctx.log(f"number {number}")
        return account.end(number=number)


@deck.handler(retry=SOON)
async def flaky(ctx: JobContext, failures: int) -> dict[str, int]:
    """Fails in its first attempts, then ends well."""
    with ledger.execution(ctx) as account:
        await asyncio.sleep(0.01)
        await ctx.progress(0.5, "half of it")
        if ctx.job.attempt <= failures:
            raise RuntimeError("not yet")
        return account.end(failures=failures)


@deck.handler()
async def snoozing(ctx: JobContext, seconds: float) -> dict[str, float] | Snooze:
    """Asks to be run later, once."""
    with ledger.execution(ctx) as account:
        if ctx.job.seq <= FIRST_CLAIMS:
            account.write("snoozed")
            return Snooze(seconds)
        return account.end(seconds=seconds)


@deck.handler(max_attempts=3)
async def awaiting(ctx: JobContext, seconds: float) -> dict[str, float]:
    """Takes its time, in steps."""
    with ledger.execution(ctx) as account:
        steps = round(seconds / STEP)
        for step in range(1, steps + 1):
            await asyncio.sleep(STEP)
            account.write("step")
            await ctx.progress(step / steps)
            await ctx.log(f"step {step}")
            if step % TELLING == 0:
                await ctx.output({"step": step})
        return account.end(seconds=seconds)


@deck.handler(max_attempts=2, retry=SOON)
async def doomed(ctx: JobContext) -> None:
    """Fails every time."""
    with ledger.execution(ctx):
        raise RuntimeError("never")


@deck.handler()
async def declining(ctx: JobContext) -> Cancel:
    """Ends its job as cancelled."""
    with ledger.execution(ctx) as account:
        account.write("declined")
        return Cancel("not for me")


@deck.handler(timeout=0.4, max_attempts=1)
async def overrunning(ctx: JobContext) -> None:
    """Takes longer than it may."""
    with ledger.execution(ctx) as account:
        while True:
            await asyncio.sleep(STEP)
            account.write("step")
