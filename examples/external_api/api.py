"""The outside API, for trying things out: exchange rates and orders, and faults on demand.

python -m examples.external_api.api [PORT]
curl -d '["500", "429 5", "slow 60"]' http://127.0.0.1:9000/faults
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, Response, request

RATES = {"GBP": 0.86, "JPY": 171.5, "USD": 1.09}


class Faults:
    """What is to go wrong next: a status, with or without seconds for Retry-After; `slow` or `drip`, with seconds."""

    def __init__(self) -> None:
        self.waiting: list[str] = []

    async def next(self) -> Response | None:
        """The answer of the next fault, if there is one."""
        if not self.waiting:
            return None
        what, _, seconds = self.waiting.pop(0).partition(" ")
        match what:
            case "slow":
                await asyncio.sleep(float(seconds))
                return None
            case "drip":
                return Response(drip(float(seconds)))
        return Response(f"as you wish: {what}\n", int(what), {"Retry-After": seconds} if seconds else {})


async def drip(seconds: float) -> AsyncIterator[bytes]:
    """An answer that is never late and never there."""
    for _ in range(int(seconds * 20)):
        yield b" "
        await asyncio.sleep(0.05)


def make_api() -> Quart:
    """An API that keeps its orders in memory."""
    api = Quart("bank")
    faults = Faults()
    orders: dict[str, dict[str, Any]] = {}
    seen: list[str] = []

    @api.before_request
    async def see() -> None:
        if request.path not in ("/faults", "/seen"):
            seen.append(f"{request.method} {request.path}")

    @api.get("/rates/<currency>")
    async def rate(currency: str) -> Any:
        if (answer := await faults.next()) is not None:
            return answer
        if currency not in RATES:
            return Response(f"no rate for {currency}", 404)
        return {"currency": currency, "rate": RATES[currency]}

    @api.post("/orders")
    async def order() -> Any:
        key, body = request.headers["Idempotency-Key"], await request.get_json()
        # It is carried out before anything goes wrong, as happens: the caller cannot know.
        made = orders.setdefault(key, {"order": len(orders) + 1, **body})
        return await faults.next() or made

    @api.post("/faults")
    async def take_faults() -> Any:
        faults.waiting += await request.get_json(force=True)
        return {"faults": faults.waiting}

    @api.get("/seen")
    async def tell_seen() -> Any:
        return {"requests": seen, "orders": list(orders.values())}

    return api


if __name__ == "__main__":
    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1] if len(sys.argv) > 1 else 9000}"]
    asyncio.run(serve(make_api(), config))
