"""A ticker: a handler that publishes prices as it draws them.

qd serve examples.ticker.app:deck
qd submit walk symbol=ACME
"""

import asyncio
import random
from typing import Annotated, Any

from msgspec import Meta

from quarterdeck import JobContext, Quarterdeck

deck = Quarterdeck()

Symbol = Annotated[str, Meta(pattern="^[A-Z]{1,12}$")]
Steps = Annotated[int, Meta(ge=1, le=100_000)]
Seconds = Annotated[float, Meta(ge=0, le=60)]


@deck.handler(queue="ticker", timeout="1d")
async def walk(
    ctx: JobContext, symbol: Symbol, steps: Steps = 60, pause: Seconds = 1.0, seed: int | None = None
) -> dict[str, Any]:
    """Draws a price after the other, each near the one before; with a `seed` always the same ones."""
    draw = random.Random(str(ctx.job.id) if seed is None else seed)
    price = 100.0
    for step in range(1, steps + 1):
        price = round(max(0.01, price * (1 + draw.gauss(0, 0.01))), 2)
        await ctx.publish(f"price.{symbol}", {"symbol": symbol, "price": price, "step": step})
        await ctx.progress(step / steps, f"{symbol} at {price:.2f}")
        await asyncio.sleep(pause)
    return {"symbol": symbol, "price": price}
