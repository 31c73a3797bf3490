"""The dice of the chat: a handler that takes part in a room.

    qd serve examples.chat.app:deck

The rooms themselves need no code: they are topics, and the service keeps their latest messages.
"""

import random
import re
from typing import Any

from quarterdeck import JobContext, Quarterdeck

deck = Quarterdeck()

DICE = re.compile(r"([1-9]|[1-4][0-9]|50)d([1-9][0-9]{0,2})")


@deck.handler(queue="dice", max_attempts=3)
async def roll(ctx: JobContext, room: str, name: str, dice: str = "1d6") -> dict[str, Any]:
    """Rolls dice for somebody, and tells the room."""
    found = DICE.fullmatch(dice)
    if found is None:
        await tell(ctx, room, f"I cannot roll that, {name}. Say /roll 2d6")
        return {"thrown": []}
    count, sides = int(found[1]), int(found[2])
    # Drawn from the job's id: an attempt after a crash throws the same.
    draw = random.Random(str(ctx.job.id))
    thrown = [draw.randint(1, sides) for _ in range(count)]
    await tell(ctx, room, f"{name} rolls {dice}: {' + '.join(map(str, thrown))} = {sum(thrown)}")
    return {"thrown": thrown}


async def tell(ctx: JobContext, room: str, text: str) -> None:
    """Says something in a room."""
    await ctx.publish(f"chat.{room}", {"from": "dice", "text": text})
