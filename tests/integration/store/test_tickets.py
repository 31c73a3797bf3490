import asyncio
import datetime as dt
import uuid

import pytest

from quarterdeck.domain.ticket import Ticket
from quarterdeck.store.tickets import TicketStore
from tests.support.factories import open_stores

ALL = Ticket("ann", "acme", frozenset({"*"}))


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


@pytest.fixture
def tickets(stores):
    return TicketStore(stores.source)


@pytest.mark.parametrize(
    "ticket",
    [
        ALL,
        Ticket("", "t", frozenset()),
        Ticket("bob", "t", frozenset({"read", "write"}), job=uuid.UUID(int=7)),
        Ticket("bob", "t", frozenset({"read"}), tag="a tag"),
        Ticket("bob", "t", frozenset({"read"}), topic="news"),
    ],
)
async def test_a_ticket_comes_back_as_it_was_and_once(tickets, ticket):
    await tickets.create_ticket(b"digest", ticket, 30.0)
    assert await tickets.redeem_ticket(b"another") is None
    assert await tickets.redeem_ticket(b"digest") == ticket
    assert await tickets.redeem_ticket(b"digest") is None


async def test_a_ticket_tells_until_when_it_can_be_used(stores, tickets):
    (before,) = await stores.fetch("select clock_timestamp() as now")
    expires_at = await tickets.create_ticket(b"digest", ALL, 30.0)
    (after,) = await stores.fetch("select clock_timestamp() as now")
    assert before["now"] <= expires_at - dt.timedelta(seconds=30) <= after["now"]


async def test_a_ticket_that_is_over_gives_nothing_and_goes(stores, tickets):
    await tickets.create_ticket(b"digest", ALL, 0.0)
    assert await tickets.redeem_ticket(b"digest") is None
    assert await stores.fetch("select from quarterdeck.ticket") == []


async def test_who_creates_one_forgets_those_that_are_over_a_bounded_number_at_a_time(stores, tickets):
    await stores.execute("""
        insert into quarterdeck.ticket (digest, principal, tenant, scopes, expires_at)
        select int8send(n), 'p', 't', '{}', now() - n * interval '1 s' from generate_series(1, 150) as n
    """)

    async def left():
        return (await stores.fetch("select count(*) as n from quarterdeck.ticket"))[0]["n"]

    await tickets.create_ticket(b"1", ALL, 30.0)
    assert await left() == 51
    await tickets.create_ticket(b"2", ALL, 30.0)
    await tickets.create_ticket(b"3", ALL, 30.0)
    assert await left() == 3


async def test_creating_one_waits_for_nobody_who_redeems_one_that_is_over(stores, tickets):
    await tickets.create_ticket(b"old", ALL, 0.0)
    async with stores.transaction() as redeeming:
        assert await TicketStore(redeeming.source).redeem_ticket(b"old") is None
        await asyncio.wait_for(tickets.create_ticket(b"new", ALL, 30.0), 15)


async def test_nothing_of_a_ticket_but_its_hash_is_stored(stores):
    columns = await stores.fetch(
        "select column_name as name from information_schema.columns where table_name = 'ticket' order by 1"
    )
    assert [row["name"] for row in columns] == [
        *("digest", "expires_at", "job_id", "principal", "scopes", "tag", "tenant", "topic")
    ]
