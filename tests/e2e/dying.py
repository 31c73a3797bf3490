"""The deck of the other tests, in a process where an inner loop dies once a job has run, as only a fault could do."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from quarterdeck.engine.completer import Completer
from quarterdeck.engine.producer import Producer
from quarterdeck.engine.tick import Tick
from tests.e2e.decks import deck

LOOPS: dict[str, Any] = {"tick": Tick, "producer": Producer, "completer": Completer}

struck = asyncio.Event()
doomed = LOOPS[os.environ.get("DYING_LOOP", "tick")]


def mortal(run: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    """The loop, until it is struck."""

    async def run_and_die(part: Any) -> None:
        work = asyncio.ensure_future(run(part))
        await struck.wait()
        work.cancel()
        raise RuntimeError("this loop is broken")

    return run_and_die


doomed.run = mortal(doomed.run)


@deck.handler()
async def strike() -> None:
    """Let the loop die."""
    struck.set()
