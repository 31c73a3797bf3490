"""`quarterdeck.http`: calls a URL."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from quarterdeck.domain.errors import Rejection, RetryLater
from quarterdeck.domain.handler import JobContext
from quarterdeck.handlers.answers import Verdict, body_of, excerpt, headers_of, in_words, retry_after, verdict
from quarterdeck.handlers.dialer import CallFailed, TargetRefused
from quarterdeck.handlers.http_args import CallUrl, Headers, Method, Statuses
from quarterdeck.handlers.outbound import Answer, Outbound, Url, joined, port_of, read_url
from quarterdeck.version import __version__

KIND = "quarterdeck.http"
TIMEOUT = 60.0
"""Seconds a call may take in all, where the submit does not say otherwise."""
LONGEST = 3600.0
"""Seconds a call may take where the job has no time limit: nobody waits for an answer that drips for ever."""
MAX_REDIRECTS = 3

Pairs = list[tuple[str, str]]

_REDIRECTS = (301, 302, 303, 307, 308)
_DEFAULTS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": f"quarterdeck/{__version__}"}


class AnswerRefused(Rejection):
    """The answer is one that another try would not change."""


class AnswerAsksForRetry(RetryLater):
    """The answer says that a later try may go better."""


class _Call(msgspec.Struct):
    """A request, as it is sent next. `given` are the caller's headers, which stay with the first origin."""

    method: str
    url: Url
    given: Pairs
    content: bytes
    content_type: str | None


class HttpCalls:
    """The handler, and what it calls through."""

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound

    async def call(
        self,
        ctx: JobContext,
        *,
        url: CallUrl,
        method: Method | None = None,
        headers: Headers = {},  # noqa: B006 - copied for each call by whoever binds the arguments
        json: Any = msgspec.UNSET,
        body: str | None = None,
        expect: Statuses | None = None,
        follow_redirects: bool = False,
    ) -> dict[str, Any]:
        """Calls `url` and returns the answer; without a `method` it is GET, or POST where there is a body.

        Raises AnswerRefused, AnswerAsksForRetry, TargetRefused, CallFailed. Its time limit is the attempt's.
        """
        began = time.monotonic()
        content, content_type = _content(json, body)
        given = []
        for name, value in headers.items():
            if name.lower() == "content-type":
                content_type = value.strip()
            else:
                given.append((name, value.strip()))
        usual = "GET" if content is None else "POST"
        asked = read_url(url)
        call = _Call(method or usual, asked, given, content or b"", content_type)
        ours = [("Idempotency-Key", str(ctx.job.id)), ("Quarterdeck-Fence", str(ctx.fence))]
        try:
            async with asyncio.timeout(LONGEST if ctx.job.timeout is None else None):
                answer = await self._follow(call, ours, expect, redirects=MAX_REDIRECTS if follow_redirects else 0)
        except TimeoutError:
            raise CallFailed(f"{_shown(call)} was not answered within {LONGEST:g} s") from None
        _judge(call, answer, expect)
        result = {"status": answer.status, "headers": headers_of(answer), **body_of(answer)}
        if call.url != asked:
            result["url"] = str(call.url)
        return {**result, "elapsed": round(time.monotonic() - began, 3)}

    async def _follow(self, call: _Call, ours: Pairs, expect: Sequence[int] | None, redirects: int) -> Answer:
        """The last answer; `call` is what was sent for it."""
        follow = redirects > 0
        while True:
            answer = await self._outbound.call(call.method, call.url, _headers(call, ours), call.content)
            location = answer.header("location")
            wanted = expect is not None and answer.status in expect
            if not follow or wanted or location is None or answer.status not in _REDIRECTS:
                return answer
            if redirects == 0:
                raise AnswerRefused(f"{_shown(call)} leads through more than {MAX_REDIRECTS} redirects")
            redirects -= 1
            _redirect(call, answer.status, location)


def _content(json: Any, body: str | None) -> tuple[bytes | None, str | None]:
    if json is not msgspec.UNSET:
        return msgspec.json.encode(json), "application/json"
    if body is not None:
        return body.encode(), "text/plain; charset=utf-8"
    return None, None


def _headers(call: _Call, ours: Pairs) -> Pairs:
    given = {name.lower() for name, _ in call.given}
    defaults = [(name, value) for name, value in _DEFAULTS.items() if name not in given]
    typed = [] if call.content_type is None else [("Content-Type", call.content_type)]
    return [*defaults, *typed, *call.given, *ours]


def _redirect(call: _Call, status: int, location: str) -> None:
    """Turns `call` into the one that an answer asks for (RFC 9110, section 15.4). Raises TargetRefused."""
    try:
        # Bytes beyond ASCII are UTF-8 in practice; headers were read as Latin-1.
        url = joined(call.url, location.encode("latin-1").decode("utf-8", "replace"))
    except ValueError as error:
        raise TargetRefused(f"{_shown(call)} redirects to a place that {error}") from None
    if call.url.scheme == "https" and url.scheme == "http":
        raise TargetRefused(f"{_shown(call)} redirects from https to http")
    if not _same_origin(call.url, url):
        call.given = []  # tokens and the like were meant for the first place
    call.url = url
    if call.method != "HEAD" and (status == 303 or (status in (301, 302) and call.method == "POST")):
        call.method, call.content, call.content_type = "GET", b"", None


def _same_origin(before: Url, after: Url) -> bool:
    places = [(url.scheme, url.raw_host, port_of(url)) for url in (before, after)]
    upgraded = places == [("http", after.raw_host, 80), ("https", after.raw_host, 443)]
    return places[0] == places[1] or upgraded


def _judge(call: _Call, answer: Answer, expect: Sequence[int] | None) -> None:
    judged = verdict(answer.status, expect)
    if judged is Verdict.DONE:
        return
    message = f"{_shown(call)} was answered {in_words(answer.status)}"
    error: Exception
    if judged is Verdict.LATER:
        error = AnswerAsksForRetry(message, retry_after(answer, dt.datetime.now(dt.UTC)))
    else:
        error = AnswerRefused(message)
    if words := excerpt(answer):
        error.add_note(words)  # in the job's errors, with the traceback; not in its state
    raise error


def _shown(call: _Call) -> str:
    """A call in words, without the query, where keys and tokens may stand."""
    return f"{call.method} {call.url.copy_with(query=None, fragment=None)}"
