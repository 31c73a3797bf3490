"""Tickets: for browsers, which cannot send a header with a WebSocket or an EventSource."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import secrets

from quarterdeck.domain.ticket import Ticket
from quarterdeck.engine.calls import Calls
from quarterdeck.store.tickets import TicketStore

LIFE = 30.0
"""Seconds that a ticket may be used for."""
RANDOM_BYTES = 32

_TICKET = re.compile(r"[A-Za-z0-9_-]{43}")


class Tickets:
    """Gives tickets out and takes them back, once each, in whichever process. Only their hashes are stored.

    Every method raises Unavailable where the database is out.
    """

    def __init__(self, store: TicketStore, *, calls: Calls) -> None:
        self._store = store
        self._calls = calls

    async def create(self, allowed: Ticket) -> tuple[str, dt.datetime]:
        """A new ticket, a secret, that allows this; and until when."""
        self._calls.require_open()
        ticket = secrets.token_urlsafe(RANDOM_BYTES)
        return ticket, await self._calls.call(self._store.create_ticket(_digest(ticket), allowed, LIFE))

    async def redeem(self, ticket: str) -> Ticket | None:
        """What a ticket allows; from now on it allows nothing. None for one that is over, was used, or is none.

        Where the answer is Unavailable it may have been used up: whoever holds it asks for another one.
        """
        if not _TICKET.fullmatch(ticket):
            return None
        self._calls.require_open()
        return await self._calls.call(self._store.redeem_ticket(_digest(ticket)))


def _digest(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode()).digest()
