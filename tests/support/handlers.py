"""Handlers that several suites submit jobs to."""

import asyncio

from quarterdeck import Cancel, Quarterdeck


def plain_deck(gate: asyncio.Event, attempts: int = 1) -> Quarterdeck:
    """A deck with `add`, `hold` (until the gate is open), `fail` (in so many `attempts`) and `give_up`."""
    deck = Quarterdeck()

    @deck.handler()
    async def add(left: int, right: int) -> int:
        return left + right

    @deck.handler()
    async def hold() -> str:
        await gate.wait()
        return "let go"

    @deck.handler(max_attempts=attempts, retry={"backoff": [0.01], "jitter": False})
    async def fail(message: str = "no such luck") -> None:
        raise ValueError(message)

    @deck.handler()
    async def give_up() -> Cancel:
        return Cancel("no use")

    return deck
