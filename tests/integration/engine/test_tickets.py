"""Tickets: used once, in time, anywhere."""

import asyncio
import datetime as dt
import re
from contextlib import asynccontextmanager

import pytest

from quarterdeck.domain.errors import Unavailable
from quarterdeck.domain.ticket import Ticket
from quarterdeck.engine import tickets as module
from quarterdeck.engine.calls import Calls
from quarterdeck.engine.tickets import Tickets
from quarterdeck.store import pool
from quarterdeck.store.tickets import TicketStore

ALLOWED = Ticket("ann", "acme", frozenset({"*"}), topic="news")


@asynccontextmanager
async def process(dsn):
    connections = await pool.open_pool(dsn, name=pool.API, size=4, command_timeout=8.0)
    calls = Calls()
    calls.open()
    try:
        yield Tickets(TicketStore(connections), calls=calls)
    finally:
        await calls.close()
        await pool.close_pool(connections)


@pytest.fixture
async def here(database_url):
    async with process(database_url) as made:
        yield made


@pytest.fixture
async def there(database_url):
    async with process(database_url) as made:
        yield made


async def test_a_ticket_is_redeemed_in_another_process_and_once(here, there):
    ticket, expires_at = await here.create(ALLOWED)
    assert dt.timedelta(0) < expires_at - dt.datetime.now(dt.UTC) <= dt.timedelta(seconds=module.LIFE + 1)
    assert await there.redeem(ticket) == ALLOWED
    assert await here.redeem(ticket) is None


async def test_of_twenty_who_redeem_it_one_gets_it(here, there):
    for _ in range(5):
        ticket, _ = await here.create(ALLOWED)
        found = await asyncio.gather(*(process.redeem(ticket) for process in [here, there] * 10))
        assert sorted(found, key=repr) == [None] * 19 + [ALLOWED]


async def test_a_ticket_is_random_and_fits_into_a_url(here):
    tickets = [(await here.create(ALLOWED))[0] for _ in range(20)]
    assert len(set(tickets)) == 20
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", ticket) for ticket in tickets)


async def test_a_ticket_is_over_after_its_time(here, monkeypatch):
    monkeypatch.setattr(module, "LIFE", 0.0)
    ticket, _ = await here.create(ALLOWED)
    assert await here.redeem(ticket) is None


async def test_what_is_no_ticket_is_not_looked_up(here, monkeypatch):
    ticket, _ = await here.create(ALLOWED)
    with monkeypatch.context() as patch:
        patch.setattr(TicketStore, "redeem_ticket", None)
        for other in ("", "x", f"{ticket}x", f"{ticket}\n", ticket[:-1], "ü" * 43, "\ud800" * 43, "\0" * 43):
            assert await here.redeem(other) is None
    assert await here.redeem(ticket) == ALLOWED


async def test_the_database_has_no_ticket_in_it(here, connection):
    ticket, _ = await here.create(ALLOWED)
    (row,) = await connection.fetch("select t::text as text, t.digest from quarterdeck.ticket t")
    assert ticket not in row["text"]
    assert ticket.encode().hex() not in row["text"]
    assert len(row["digest"]) == 32


async def test_before_the_database_was_reached_there_are_no_tickets():
    tickets = Tickets(TicketStore(None), calls=Calls())
    with pytest.raises(Unavailable):
        await tickets.create(ALLOWED)
    with pytest.raises(Unavailable):
        await tickets.redeem("x" * 43)
