"""TicketStore: single-use tickets, by their hashes."""

from __future__ import annotations

import datetime as dt
from typing import cast

import asyncpg

from quarterdeck.domain.ticket import Ticket
from quarterdeck.store.pool import fetch


class TicketStore:
    """The statements behind tickets. Every method may raise what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def create_ticket(self, digest: bytes, ticket: Ticket, seconds: float) -> dt.datetime:
        """Keeps a ticket under its hash for some seconds; returns until when."""
        scopes = sorted(ticket.scopes)
        allowed = (ticket.principal, ticket.tenant, scopes, ticket.job, ticket.tag, ticket.topic)
        (row,) = await fetch(self._pool, "create_ticket", digest, *allowed, seconds)
        return cast("dt.datetime", row["expires_at"])

    async def redeem_ticket(self, digest: bytes) -> Ticket | None:
        """Takes the ticket of that hash away and returns it; None where there is none, or where it is over."""
        for row in await fetch(self._pool, "redeem_ticket", digest):
            principal, tenant, scopes, job, tag, topic = row
            return Ticket(principal, tenant, frozenset(scopes), job, tag, topic)
        return None
