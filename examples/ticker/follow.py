"""Prints prices as they come, over Server-Sent Events.

python -m examples.ticker.follow ACME GLOBEX
"""

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import httpx

SERVICE = os.environ.get("QUARTERDECK_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("QUARTERDECK_API_KEY")
PATIENCE = httpx.Timeout(10, read=40)
"""Seconds of silence: the service sends a comment every 15."""


async def follow(http: httpx.AsyncClient, symbol: str) -> None:
    """Prints the prices of a symbol. After a break it goes on behind the last one that it has."""
    last: dict[str, str] = {}
    before = None
    while True:
        with suppress(httpx.TransportError):
            async with http.stream("GET", "/v1/events", params={"topic": f"price.{symbol}"}, headers=last) as answer:
                if answer.status_code < 500:
                    answer.raise_for_status()
                    print(f"following {symbol}", flush=True)
                    async with aclosing(events(answer)) as stream:
                        async for number, name, text in stream:
                            last = {"Last-Event-ID": number}
                            if name == "message":
                                price = json.loads(text)["data"]["price"]
                                print(f"{symbol:12} {price:10.2f} {arrow(before, price)}", flush=True)
                                before = price
        await asyncio.sleep(random.uniform(0.5, 1.5))


async def events(answer: httpx.Response) -> AsyncGenerator[tuple[str, str, str], None]:
    """The events of a stream: id, name, data."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            if "data" in fields:
                yield fields["id"], fields["event"], fields["data"]
            fields = {}


def arrow(before: float | None, price: float) -> str:
    """Where the price went."""
    if before is None or before == price:
        return "="
    return "+" if price > before else "-"


async def main(symbols: list[str]) -> None:
    """Follows each symbol on a connection of its own."""
    headers = {"Authorization": f"Bearer {KEY}"} if KEY else {}
    async with (
        httpx.AsyncClient(base_url=SERVICE, headers=headers, timeout=PATIENCE) as http,
        asyncio.TaskGroup() as all_,
    ):
        for symbol in symbols:
            all_.create_task(follow(http, symbol))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1:] or ["ACME"]))
