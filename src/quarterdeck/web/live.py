"""The live channel over a WebSocket: who may open one, and who asks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import parse_qs

import msgspec

from quarterdeck.domain.errors import Unavailable
from quarterdeck.domain.ticket import Ticket
from quarterdeck.engine.service import Engine
from quarterdeck.web import strictjson
from quarterdeck.web.auth import PRINCIPAL, STRANGER, Access, Principal
from quarterdeck.web.frames import SUBPROTOCOL, AuthFrame, HelloFrame, text_of
from quarterdeck.web.gate import Application, Receive, Scope, Send
from quarterdeck.web.problems import BAD_REQUEST, NOT_FOUND, Refusal
from quarterdeck.web.service import Service
from quarterdeck.web.socket import CLOSED, Socket, SocketClosed
from quarterdeck.web.socket_session import SocketSession

PATH = "/v1/live"
AUTH_TIMEOUT = 10.0
"""Seconds in which a client must say who it is."""
UNAUTHENTICATED = 4401
_PARAMETERS = frozenset({"ticket"})


class LiveChannel:
    """An ASGI application in front of another, which takes the WebSockets."""

    def __init__(self, app: Application, service: Service, access: Access) -> None:
        self._app = app
        self._service = service
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a connection."""
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        if scope["path"] != PATH:
            raise Refusal(NOT_FOUND, f"There is no socket here; the live channel is at {PATH}")
        engine = self._engine()
        ticket = _ticket(scope)
        await receive()  # websocket.connect
        socket = Socket(scope, receive, send)
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in scope.get("subprotocols", ()) else None)
        try:
            await self._serve(engine, socket, cast("Principal", scope[PRINCIPAL]), ticket)
        except SocketClosed:
            pass
        finally:
            await socket.close(CLOSED)

    def _engine(self) -> Engine:
        engine = self._service.engine
        if engine.draining:
            raise Unavailable("this process is stopping")
        return engine

    async def _serve(self, engine: Engine, socket: Socket, principal: Principal, ticket: str | None) -> None:
        heartbeat = self._service.settings.live_heartbeat
        await socket.send([text_of(HelloFrame(heartbeat))])
        limit: Ticket | None = None
        if ticket is not None:
            limit = await engine.live.tickets.redeem(ticket)
            if limit is None:
                await socket.close(UNAUTHENTICATED, "the ticket is unknown, used or too old")
                return
            principal = Principal(limit.principal, limit.tenant, limit.scopes)
        elif principal is STRANGER:
            principal = await self._introduced(socket)
        await SocketSession(engine, socket, principal, limit, heartbeat=heartbeat, access=self._access).run()

    async def _introduced(self, socket: Socket) -> Principal:
        """Who asks, from the first frame."""
        try:
            async with asyncio.timeout(AUTH_TIMEOUT):
                text = await socket.receive()
        except TimeoutError:
            await socket.close(UNAUTHENTICATED, "nobody said who asks")
            raise SocketClosed from None
        principal = None
        try:
            frame = msgspec.convert(strictjson.decode(text.encode()), AuthFrame)
            principal = self._access.recognise(frame.token)
        except (Refusal, msgspec.ValidationError):
            pass
        if principal is None:
            await socket.close(UNAUTHENTICATED, "a valid API key is needed")
            raise SocketClosed
        return principal


def _ticket(scope: Mapping[str, Any]) -> str | None:
    """The ticket in the query. Raises Refusal where there is anything else in it."""
    try:
        given = parse_qs(scope["query_string"].decode("ascii"), keep_blank_values=True, max_num_fields=10)
    except ValueError:
        raise Refusal(BAD_REQUEST, "The query string cannot be read") from None
    tickets = given.get("ticket", [])
    if set(given) - _PARAMETERS or len(tickets) > 1:
        raise Refusal(BAD_REQUEST, "A socket takes no parameter but one ticket")
    return tickets[0] if tickets else None
