"""Tickets over REST: ask for one."""

from __future__ import annotations

import uuid

import msgspec
import quart

from quarterdeck.clock import rfc3339
from quarterdeck.domain.errors import FieldError
from quarterdeck.domain.submission import MAX_TAG_CHARACTERS, Check
from quarterdeck.domain.ticket import Ticket
from quarterdeck.web.endpoint import Call, endpoint, json_response
from quarterdeck.web.problems import (
    BODY_TOO_LARGE,
    INVALID,
    MALFORMED_JSON,
    REQUEST_TIMEOUT,
    UNSUPPORTED_MEDIA_TYPE,
    Refusal,
)

BODY_LIMIT = 4 * 1024


class TicketLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a ticket is to be limited to; at most one of these."""

    job: uuid.UUID | None = None
    tag: str | None = None
    topic: str | None = None


class TicketBody(msgspec.Struct, frozen=True):
    """A ticket."""

    ticket: str
    expires_at: str


_UNLIMITED = TicketLimits()


@endpoint(
    "POST",
    "/v1/tickets",
    summary="Get a ticket",
    responses={201: TicketBody},
    problems=(MALFORMED_JSON, REQUEST_TIMEOUT, BODY_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, INVALID),
    body_limit=BODY_LIMIT,
)
async def create_ticket(call: Call, body: TicketLimits = _UNLIMITED) -> quart.Response:
    """A ticket stands in for the key where a browser can send none: `?ticket=` of the live channel and of SSE.

    It can be used once, within 30 seconds, at any process of the installation. It allows what the caller may do; with a
    `job`, a `tag` or a `topic`, only to watch that one, and to publish to that topic. The body may be left out.
    """
    _check(body)
    who = call.principal
    allowed = Ticket(who.name, who.tenant, who.scopes, body.job, body.tag, body.topic)
    ticket, expires_at = await call.service.engine.live.tickets.create(allowed)
    return json_response(201, TicketBody(ticket, rfc3339(expires_at)), {"Cache-Control": "no-store"})


ENDPOINTS = (create_ticket,)


def _check(body: TicketLimits) -> None:
    given = [field for field in body.__struct_fields__ if getattr(body, field) is not None]
    errors = [FieldError(f"/{field}", f"given together with {given[0]}") for field in given[1:]]
    check = Check()
    if body.tag is not None and not 1 <= len(body.tag) <= MAX_TAG_CHARACTERS:
        check.refuse("tag", f"must be 1 to {MAX_TAG_CHARACTERS} characters")
    if body.topic is not None:
        check.name("topic", body.topic)
    if errors or check.errors:
        raise Refusal(INVALID, "The limits of the ticket break a rule", errors=[*errors, *check.errors])
