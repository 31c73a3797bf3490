"""Rest: calls of a service's REST interface, tried again where that is safe."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from typing import Any, TypeVar

import httpx
import msgspec

from quarterdeck.client.errors import (
    IdempotencyInFlight,
    QuarterdeckClientError,
    RequestTimeout,
    TooManyRequests,
    Unanswered,
    UnexpectedAnswer,
    Unreachable,
    error_of,
)

CONNECTIONS = 32
"""Requests of a client that are under way at the same time; the others wait for their turn."""
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 3.0

NOTHING = object()
"""No body; None is one."""

_PASSING = frozenset({502, 503, 504})

T = TypeVar("T")


def pause_after(failures: int) -> float:
    """Seconds to wait after so many failures in a row, with jitter."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 10)) * random.uniform(0.5, 1.0)


def address_of(url: str) -> httpx.URL:
    """The URL of a service. Raises ValueError where it is none."""
    try:
        address = httpx.URL(url.rstrip("/"))
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is no URL: {error}") from None
    if address.scheme not in ("http", "https") or not address.host:
        raise ValueError(f"{url!r} is no URL of a service: it begins with http:// or https://, then the host")
    return address


def headers_of(api_key: str | None) -> dict[str, str]:
    """The headers that say who asks, spaces around the key left out. Raises ValueError for what cannot be a key."""
    api_key = (api_key or "").strip()
    if not api_key:
        return {}
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise ValueError("the API key holds characters that no key has")
    return {"Authorization": f"Bearer {api_key}"}


class Rest:
    """Calls of one service. Every method raises QuarterdeckClientError."""

    def __init__(
        self,
        address: httpx.URL,
        headers: dict[str, str],
        trusted: ssl.SSLContext | None,
        *,
        timeout: float,
        patience: float,
    ) -> None:
        self._address = address
        self._timeout = timeout
        self._patience = patience
        self._turns = asyncio.Semaphore(CONNECTIONS)
        limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        # trust_env: a proxy or a .netrc of this machine is not meant for the service. Each try has a limit as a whole.
        self._http = httpx.AsyncClient(
            base_url=address,
            headers={"Accept": "application/json", **headers},
            timeout=None,  # noqa: S113 - see above
            limits=limits,
            trust_env=False,
            verify=trusted or False,
        )

    async def close(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        body: Any = NOTHING,
        key: str | None = None,
        parameters: dict[str, str] | None = None,
        repeatable: bool = True,
    ) -> T:
        """The answer, tried again for `patience` seconds while the service is not there or asks for that.

        What is not `repeatable` is not tried again once the service may have obeyed.
        """
        # to_builtins: what the service takes as text (dates, ids, decimals) may be given as what it is.
        content = None if body is NOTHING else json.dumps(body, allow_nan=False, default=msgspec.to_builtins).encode()
        headers = {} if body is NOTHING else {"Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        request = self._http.build_request(method, path, content=content, headers=headers, params=parameters)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        failures = 0
        while True:
            try:
                return self._read(await self._send(request), kind)
            except QuarterdeckClientError as error:
                if not _is_passing(error, repeatable=repeatable):
                    raise
                failures += 1
                pause = pause_after(failures)
                if error.retry_after is not None:
                    pause += error.retry_after
                if loop.time() + pause > deadline:
                    raise
            await asyncio.sleep(pause)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            async with self._turns, asyncio.timeout(self._timeout):
                return await self._http.send(request)
        except TimeoutError:
            raise Unanswered(f"{self._address} did not answer within {self._timeout:g} s") from None
        except httpx.ConnectError as error:
            raise Unreachable(f"no service can be reached at {self._address} ({_words(error)})") from None
        except httpx.LocalProtocolError as error:
            raise ValueError(f"no such request can be made: {error}") from None
        except httpx.TransportError as error:
            raise Unanswered(f"the connection to {self._address} was lost ({_words(error)})") from None

    def _read(self, answer: httpx.Response, kind: type[T]) -> T:
        try:
            document = json.loads(answer.content)
            if answer.is_success:
                return msgspec.convert(document, kind)
        except (ValueError, RecursionError):  # msgspec's errors are among them
            document = None
        if isinstance(document, dict) and "title" in document:
            retry_after = _seconds(answer.headers.get("Retry-After"))
            raise error_of(
                answer.status_code, document, retry_after=retry_after, asked=f"{self._address} refused: "
            ) from None
        raise UnexpectedAnswer(
            f"{self._address} answers {answer.status_code}, but not as a Quarterdeck service: is the URL right?",
            status=answer.status_code,
        ) from None


def _is_passing(error: QuarterdeckClientError, *, repeatable: bool) -> bool:
    """Whether the same request is worth another try."""
    if isinstance(error, TooManyRequests) or (isinstance(error, Unreachable) and not isinstance(error, Unanswered)):
        return True
    passing = isinstance(error, Unreachable | IdempotencyInFlight | RequestTimeout) or error.status in _PASSING
    return repeatable and passing


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else None


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
