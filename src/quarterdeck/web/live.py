"""The live channel over a WebSocket: who may open one, and who asks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, cast
from urllib.parse import parse_qs

import msgspec

from quarterdeck.domain.errors import Unavailable
from quarterdeck.domain.ticket import Ticket
from quarterdeck.engine.service import Engine
from quarterdeck.telemetry.log import get_logger
from quarterdeck.web import strictjson
from quarterdeck.web.auth import PRINCIPAL, STRANGER, Access, Principal
from quarterdeck.web.frames import SUBPROTOCOL, AuthFrame, HelloFrame, text_of
from quarterdeck.web.gate import Application, Receive, Scope, Send
from quarterdeck.web.problems import BAD_REQUEST, NOT_FOUND, Refusal
from quarterdeck.web.service import Service
from quarterdeck.web.socket import FAILED, Socket, SocketClosed
from quarterdeck.web.socket_session import LEAVE_WITHIN, SocketSession, leave

log = get_logger(__name__)

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
            if scope["type"] == "http" and scope["path"] == PATH:
                # Most often a proxy has taken the header away, so it is said in words.
                raise Refusal(NOT_FOUND, "Only a WebSocket is served here, and the request has no Upgrade: websocket")
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
        except Unavailable as error:  # there is a socket already: its client is to come again
            log.info("socket.unavailable", reason=str(error))
            socket.close(FAILED, "not available")
        except Exception:
            socket.close(FAILED)
            raise
        finally:
            with engine.live.audience(partial(_cut_soon, socket)):
                await socket.finish()

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
            limit = await self._redeemed(socket, ticket, "the ticket is unknown, used or too old")
        elif principal is STRANGER:
            token = await self._token(socket)
            known = self._access.recognise(token)
            if known is None:
                limit = await self._redeemed(socket, token, "a valid API key is needed")
            else:
                principal = known
        if limit is not None:
            principal = Principal(limit.principal, limit.tenant, limit.scopes)
        await SocketSession(engine, socket, principal, limit, heartbeat=heartbeat, access=self._access).run()

    async def _redeemed(self, socket: Socket, ticket: str, otherwise: str) -> Ticket:
        """What a ticket allows. One that allows nothing closes the socket."""
        limit = await self._engine().live.tickets.redeem(ticket)
        if limit is None:
            socket.close(UNAUTHENTICATED, otherwise)
            raise SocketClosed
        return limit

    async def _token(self, socket: Socket) -> str:
        """Who asks, by the first frame."""
        live, now = self._engine().live, asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(AUTH_TIMEOUT) as patience:
                with live.audience(lambda: patience.reschedule(now())):
                    text = await socket.receive()
        except TimeoutError:
            if self._service.engine.draining:
                await leave(socket)
            socket.close(UNAUTHENTICATED, "nobody said who asks")
            raise SocketClosed from None
        try:
            return msgspec.convert(strictjson.decode(text.encode()), AuthFrame).token
        except (Refusal, msgspec.ValidationError):
            socket.close(UNAUTHENTICATED, "a valid API key is needed")
            raise SocketClosed from None


def _cut_soon(socket: Socket) -> None:
    """This process stops: who was told goodbye, and does not read, holds it up no longer than the others."""
    asyncio.get_running_loop().call_later(LEAVE_WITHIN, socket.cut)


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
