"""Jobs that call an outside API: one client for all of them, a time limit, retries, and a cache of its answers.

qd serve examples.external_api.app:deck
qd submit convert euros=100 currency=JPY --wait
"""

import datetime as dt
import os
import random
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
from msgspec import Meta

from examples.external_api.bank import Bank, Limited, Refused
from quarterdeck import Cancel, JobContext, Quarterdeck, Snooze

deck = Quarterdeck()

Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$")]
Amount = Annotated[float, Meta(gt=0)]

LONGEST_SNOOZE = 15 * 60.0
GIVE_UP_AFTER = dt.timedelta(hours=6)


# Opened before the first job of the process, closed after its last one: all jobs share its connections and its cache.
@deck.resource("bank")
async def open_bank() -> AsyncIterator[Bank]:
    """The client of the outside API."""
    url = os.environ.get("BANK_URL", "http://127.0.0.1:9000")
    patience = float(os.environ.get("BANK_PATIENCE", "10"))
    limits = httpx.Limits(max_connections=20)
    async with httpx.AsyncClient(base_url=url, timeout=patience, limits=limits, trust_env=False) as http:
        bank = Bank(http, patience=patience)
        try:
            yield bank
        finally:
            await bank.close()


@deck.handler(queue="bank", timeout="30s", max_attempts=6, retry={"base": "1s", "cap": "1m"})
async def convert(ctx: JobContext, euros: Amount, currency: Currency) -> dict[str, Any] | Snooze | Cancel:
    """What an amount of euros is worth."""
    bank: Bank = ctx.resources["bank"]
    try:
        rate = await bank.rate(currency)
    except Limited as limited:
        return later(ctx, limited)
    except Refused as refused:
        return Cancel(str(refused))
    return {"euros": euros, "rate": rate, currency: round(euros * rate, 2)}


@deck.handler(queue="bank", timeout="30s", max_attempts=6, retry={"base": "1s", "cap": "1m"})
async def buy(ctx: JobContext, amount: Amount, currency: Currency) -> dict[str, Any] | Snooze | Cancel:
    """Buys a currency, once, however often the job runs: its id is the key by which the API knows it again."""
    bank: Bank = ctx.resources["bank"]
    try:
        return await bank.order(str(ctx.job.id), amount, currency)
    except Limited as limited:
        return later(ctx, limited)
    except Refused as refused:
        return Cancel(str(refused))


def later(ctx: JobContext, limited: Limited) -> Snooze:
    """Waits as long as the API asks for. Nothing went wrong, so no attempt is used up; but not for ever."""
    if dt.datetime.now(dt.UTC) - ctx.job.created_at > GIVE_UP_AFTER:
        raise limited
    # Not all at the same moment again.
    return Snooze(min(limited.seconds, LONGEST_SNOOZE) + random.uniform(0, 1))
