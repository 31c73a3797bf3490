"""Gate: what every request passes before it is routed, and every answer on its way out."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import structlog

from quarterdeck.telemetry.log import get_logger
from quarterdeck.telemetry.requests import RECORD, RequestRecord
from quarterdeck.web.auth import PRINCIPAL, Access, header
from quarterdeck.web.body import LIMIT, READ_AWAY, SETTLE_TIMEOUT
from quarterdeck.web.problems import BAD_REQUEST, Refusal, refusal_of

log = get_logger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Observe = Callable[[str, str | None, int | None, float], None]

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_STARTS = frozenset({"http.response.start", "websocket.http.response.start"})
# Nothing that is answered is a page with scripts, frames or forms, and nothing may be kept by caches on the way.
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Gate:
    """An ASGI application in front of another: request ids, who may pass, headers of safety, failures as problems."""

    def __init__(self, app: Application, access: Access, observe: Observe | None = None) -> None:
        """`observe` hears of every answer: its method, route, status and how many seconds it took."""
        self._app = app
        self._access = access
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        # In the server's own scope, where its log finds it.
        record = scope[RECORD] = RequestRecord(_request_id(scope))
        began = time.monotonic()
        try:
            await self._serve(scope, receive, _Answer(send, record), record)
        finally:
            if self._observe is not None:
                method = scope.get("method", "WEBSOCKET")
                self._observe(method, record.route, record.status, time.monotonic() - began)

    async def _serve(self, scope: Scope, receive: Receive, answer: _Answer, record: RequestRecord) -> None:
        with structlog.contextvars.bound_contextvars(request_id=record.id):
            try:
                scope = _in_origin_form(scope)
                principal = self._access.admit(scope)
                record.principal = principal.name
                _require_path(scope)
                await self._app({**scope, PRINCIPAL: principal}, receive, answer.send)
            except Refusal as refusal:
                log.info("request.refused", problem=refusal.family.slug, path=scope["path"])
                if scope["type"] == "websocket" or await _read_away(receive):
                    await _refuse(refusal, scope, answer.send)
            except Exception as error:
                if answer.started:
                    raise
                await _refuse(refusal_of(error), scope, answer.send)


class _Answer:
    """The way out: adds the headers that an answer does not have."""

    def __init__(self, send: Send, record: RequestRecord) -> None:
        self._send = send
        self._record = record
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] in _STARTS:
            headers = list(message.get("headers", []))
            present = {name.lower() for name, _ in headers}
            headers += [pair for pair in _HEADERS if pair[0] not in present]
            message = {**message, "headers": [*headers, (b"x-request-id", self._record.id.encode())]}
            self._record.status = message["status"]
        self._record.bytes += len(message.get("body") or b"")
        # Also a socket that was accepted or closed is one that was answered.
        self.started = True
        await self._send(message)


def _request_id(scope: Scope) -> str:
    given = header(scope, b"x-request-id")
    return given[0] if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]) else secrets.token_hex(8)


def _in_origin_form(scope: Scope) -> Scope:
    """The scope of a request for a whole URL, as proxies send them, as one for its path, if it names the same host."""
    path: str = scope["path"]
    if not path.lower().startswith(("http://", "https://")):
        return scope
    try:
        authority = urlsplit(path).netloc
    except ValueError:
        return scope
    if [authority.lower()] != [host.lower() for host in header(scope, b"host")]:
        return scope
    return {**scope, "path": path.partition("://")[2][len(authority) :] or "/"}


def _require_path(scope: Scope) -> None:
    if not scope["path"].startswith("/"):
        raise Refusal(BAD_REQUEST, "The target of the request is not a path of the host it names")


async def _refuse(refusal: Refusal, scope: Scope, send: Send) -> None:
    prefix = "http"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1008})
            return
        prefix = "websocket.http"
    body = refusal.body()
    headers = {**refusal.headers, "Content-Length": str(len(body))}
    await send(
        {
            "type": f"{prefix}.response.start",
            "status": refusal.status,
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
        }
    )
    await send({"type": f"{prefix}.response.body", "body": body, "more_body": False})


async def _read_away(receive: Receive) -> bool:
    """Reads the body, within limits, so that a client that still sends sees the answer; False where it has gone."""
    left = LIMIT * READ_AWAY
    try:
        async with asyncio.timeout(SETTLE_TIMEOUT):
            while left >= 0:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return False
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        pass
    return True
