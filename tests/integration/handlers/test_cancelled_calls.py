"""A call that is cancelled, whenever it is, takes no place of another one with it.

httpcore's own pool does lose places (the last test shows how), so this one is not used.
"""

import asyncio
import random
import time

import httpx
import pytest

from quarterdeck.handlers import Outbound
from tests.support.waiting import eventually
from tests.support.web_servers import reply, web_server

PLACES = 4


async def slowly(asked, writer):
    """A few milliseconds, and now and then the end of the connection."""
    await asyncio.sleep(random.uniform(0, 0.004))
    writer.write(reply(200, b"x" * random.choice([2, 50_000])))
    await writer.drain()
    if random.random() < 0.3:
        writer.close()


@pytest.fixture
async def narrow():
    outbound = Outbound(["127.0.0.1"], max_connections=PLACES)
    yield outbound
    await outbound.close()


async def cancel_half(start, seconds):
    """Twice as many calls as there are places, half of them cancelled at some moment; returns how many were."""
    cancelled = 0
    ends = time.monotonic() + seconds

    async def caller():
        nonlocal cancelled
        while time.monotonic() < ends:
            task = asyncio.create_task(start())
            if random.random() < 0.5:
                for _ in range(random.randrange(20)):
                    await asyncio.sleep(0)
                await asyncio.sleep(random.choice([0, 0, random.uniform(0, 0.006)]))
                task.cancel()
                if random.random() < 0.3:
                    await asyncio.sleep(0)
                    task.cancel()
                cancelled += 1
            await asyncio.gather(task, return_exceptions=True)

    await asyncio.gather(*(caller() for _ in range(2 * PLACES)))
    return cancelled


async def test_however_many_calls_are_cancelled_all_places_are_there_afterwards(call, narrow):
    async with web_server(slowly) as server:
        assert await cancel_half(lambda: call(server.url(), through=narrow), 2.0) > 20
        began = time.monotonic()
        results = await asyncio.gather(*(call(server.url(), through=narrow) for _ in range(PLACES)))
        assert time.monotonic() - began < 20, "who finds no place waits as long as its job may take: a minute"
        assert [result["status"] for result in results] == [200] * PLACES
        assert narrow._turns._value == PLACES
        assert len(narrow._kept) <= PLACES
        await narrow.close()
        await eventually(lambda: not server.open)


async def test_a_call_that_is_cancelled_in_the_moment_of_its_turn_passes_it_on(call):
    async with web_server() as server:
        through = Outbound(["127.0.0.1"], max_connections=1)
        for _ in range(20):
            first = asyncio.create_task(call(server.url(), through=through))
            waiting = asyncio.create_task(call(server.url(), through=through))
            await first
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        async with asyncio.timeout(20):
            assert (await call(server.url(), through=through))["status"] == 200
        await through.close()


async def test_a_cancel_ends_a_connection_at_once(call, outbound):
    async def never(asked, writer):
        await asyncio.Event().wait()

    async with web_server(never) as server:
        tasks = [asyncio.create_task(call(server.url())) for _ in range(10)]
        await eventually(lambda: len(server.asked) == 10)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await eventually(lambda: not server.open)
    assert outbound._kept == []


async def test_what_waits_is_closed_after_a_while_and_at_the_end(call, monkeypatch):
    monkeypatch.setattr("quarterdeck.handlers.outbound.KEEP_SECONDS", 0.05)
    async with web_server() as server:
        through = Outbound(["127.0.0.1"])
        await call(server.url(), through=through)
        assert server.open == 1
        await eventually(lambda: not server.open)
        assert through._kept == []
        await call(server.url(), through=through)
        await through.close()
        assert through._kept == []


async def test_no_more_than_some_connections_wait(call, monkeypatch):
    monkeypatch.setattr("quarterdeck.handlers.outbound.MAX_KEPT", 2)
    async with web_server() as one, web_server() as two, web_server() as three:
        through = Outbound(["127.0.0.1"])
        for server in (one, two, three):
            await call(server.url(), through=through)
        await eventually(lambda: (one.open, two.open, three.open) == (0, 1, 1))
        await through.close()


async def test_httpcores_own_pool_loses_a_place_to_a_cancel():
    """If this fails, the fault is mended there: see whether the calls can go through its pool again.

    A request that waits is given a new connection when another one ends. Cancelled before it runs again, it leaves the
    connection in the pool: neither open nor closed, and counted for ever.
    """

    async def once(asked, writer):
        writer.write(reply(200, b"ok", {"Connection": "close"}))
        await writer.drain()
        writer.close()

    async with web_server(once) as server:
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(limits=limits, timeout=httpx.Timeout(5, pool=0.2), trust_env=False) as client:
            async with client.stream("GET", server.url()) as first:
                waiting = asyncio.create_task(client.get(server.url()))
                await asyncio.sleep(0.05)
                await first.aread()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            with pytest.raises(httpx.PoolTimeout):
                await client.get(server.url())
