"""A deck in whose process an inner loop dies once a job has run, as only a fault of the service could make it."""

import asyncio

from quarterdeck import Quarterdeck
from quarterdeck.engine.tick import Tick

deck = Quarterdeck()
struck = asyncio.Event()


async def die(_tick: Tick) -> None:
    """In place of the tick's loop."""
    await struck.wait()
    raise RuntimeError("this loop is broken")


Tick.run = die  # type: ignore[method-assign]


@deck.handler()
async def strike() -> None:
    """Let the loop die."""
    struck.set()
