"""`quarterdeck.sleep`: takes its time, for trying things out."""

import asyncio
from typing import Annotated

import msgspec

KIND = "quarterdeck.sleep"

Seconds = Annotated[float, msgspec.Meta(ge=0, le=86400)]


async def sleep(seconds: Seconds) -> float:
    """Sleeps for `seconds` (at most a day) and returns them."""
    await asyncio.sleep(seconds)
    return seconds
