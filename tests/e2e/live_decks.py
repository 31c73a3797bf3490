"""Handlers that tell what they do, step by step, for services in processes of their own."""

import asyncio

from quarterdeck import JobContext, Quarterdeck

deck = Quarterdeck()


@deck.handler(max_attempts=5)
async def tell(ctx: JobContext, steps: int, pause: float) -> int:
    """Write a progress, a log line and now and then an output at each of so many steps."""
    for step in range(1, steps + 1):
        await ctx.progress(step / steps, f"step {step}")
        await ctx.log(f"step {step}")
        if step % 4 == 0:
            await ctx.output({"step": step})
        await asyncio.sleep(pause)
    return steps
