"""Handlers for jobs that are made up."""

import asyncio

from quarterdeck import Quarterdeck

deck = Quarterdeck()


@deck.handler(max_attempts=2, retry={"backoff": [0.05]})
async def fail(**_args: object) -> None:
    """Fail, whatever is given."""
    raise ValueError("no")


@deck.handler(timeout=1)
async def turn(seconds: float = 0.01, **args: object) -> dict[str, object]:
    """Take a moment, and return what was given."""
    await asyncio.sleep(seconds)
    return args
