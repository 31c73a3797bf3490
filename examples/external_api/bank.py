"""A client of the outside API: one call with its time limit, and what each kind of failure means for a job."""

import asyncio
import datetime as dt
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from examples.external_api.answers import Answers

KEEP_FOR = 60.0
"""Seconds that an exchange rate may be old."""


class Limited(Exception):
    """The API wants to be asked again in `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the API wants to be asked again in {seconds:g} s")
        self.seconds = seconds


class Refused(Exception):
    """The API will give the same answer however often it is asked."""


class Bank:
    """Exchange rates and orders."""

    def __init__(self, http: httpx.AsyncClient, *, patience: float) -> None:
        """One call may take `patience` seconds."""
        self._http = http
        self._patience = patience
        self._rates = Answers(KEEP_FOR)

    async def rate(self, currency: str) -> float:
        """What a euro is worth in a currency, at most a minute old. Raises what `_call` raises."""
        answer = await self._rates.get(currency, lambda: self._call("GET", f"/rates/{currency}"))
        return float(answer["rate"])

    async def order(self, key: str, amount: float, currency: str) -> dict[str, Any]:
        """Buys a currency, once for each `key`. Raises what `_call` raises."""
        body = {"amount": amount, "currency": currency}
        answer: dict[str, Any] = await self._call("POST", "/orders", json=body, headers={"Idempotency-Key": key})
        return answer

    async def close(self) -> None:
        """Asks nothing more."""
        await self._rates.close()

    async def _call(self, method: str, path: str, **options: Any) -> Any:
        """The answer's JSON. Raises Limited, Refused, and for what may pass httpx.HTTPError and TimeoutError."""
        # httpx limits each wait for a byte; who sends one byte a second would never be too late.
        async with asyncio.timeout(self._patience):
            answer = await self._http.request(method, path, **options)
        wait = _retry_after(answer)
        if wait is not None and answer.status_code in (429, 503):
            raise Limited(wait)
        if answer.status_code >= 500 or answer.status_code in (408, 425, 429):
            answer.raise_for_status()
        if not answer.is_success:
            raise Refused(f"{method} {path} is answered with {answer.status_code}: {answer.text[:200]}")
        return answer.json()


def _retry_after(answer: httpx.Response) -> float | None:
    """Seconds to wait; the header holds them, or a moment (RFC 9110, section 10.2.3)."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment - dt.datetime.now(moment.tzinfo)).total_seconds())
