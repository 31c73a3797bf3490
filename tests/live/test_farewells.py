"""How a socket ends: its client hears why, also where it was busy with something else than reading."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from quarterdeck.domain.errors import Unavailable
from tests.support.raw_sockets import ended, opened, text_frame
from tests.support.sockets import connected
from tests.support.waiting import eventually

KEYS = {"auth": "required", "api_keys": "ada:a-secret-that-is-long-enough"}
KEY = {"Authorization": "Bearer a-secret-that-is-long-enough"}


def follower(url, **frame):
    """A socket that follows something and does not read."""
    connection = opened(url, receive_buffer=4096)
    connection.sendall(text_frame(json.dumps({"op": "subscribe", "sub": "a", **frame})))
    return connection


async def overwhelm(service, topic, told):
    """Publishes until the service has given up a reader that does not read."""
    for _ in range(1000):
        await service.engine.live.publish(topic, "a" * 60_000, tenant="default")
        if told.is_set():
            return
    raise AssertionError("it was never too slow")


@pytest.fixture
def too_slow(monkeypatch):
    """Set when a socket was found to be too slow."""
    told = asyncio.Event()
    monkeypatch.setattr("quarterdeck.web.socket.SEND_TIMEOUT", 0.3)
    from quarterdeck.web.socket import TOO_SLOW, Socket  # noqa: PLC0415

    close = Socket.close

    def closing(self, code, *args, **options):
        if code == TOO_SLOW:
            told.set()
        close(self, code, *args, **options)

    monkeypatch.setattr(Socket, "close", closing)
    return told


@asynccontextmanager
async def given_up(service, too_slow):
    """The connection of a reader that was found to be too slow."""
    connection = await asyncio.to_thread(follower, service.url, topic="news")
    try:
        await eventually(lambda: service.engine.live.topics.followed == 1)
        await overwhelm(service, "news", too_slow)
        yield connection
    finally:
        connection.close()


@pytest.mark.parametrize("sends", [False, True], ids=["silent", "sending"])
async def test_who_reads_again_after_it_was_too_slow_gets_what_was_sent_and_1013(service, too_slow, sends, monkeypatch):
    monkeypatch.setattr("quarterdeck.web.socket.CATCH_UP_TIMEOUT", 30.0)
    async with given_up(service, too_slow) as connection:
        await eventually(lambda: service.engine.live.topics.followed == 0)  # only the farewell is kept
        if sends:
            for _ in range(50):
                await asyncio.to_thread(connection.sendall, text_frame('{"op":"pong"}'))
        await asyncio.sleep(1.5)  # longer than whoever reads gets to answer a close
        assert await asyncio.to_thread(ended, connection) == 1013
    await eventually(lambda: service.connections.live == 0)


async def test_who_never_reads_again_is_cut_off(service, too_slow, monkeypatch):
    monkeypatch.setattr("quarterdeck.web.socket.CATCH_UP_TIMEOUT", 1.1)
    async with given_up(service, too_slow):
        await eventually(lambda: service.connections.live == 0)


async def test_who_was_too_slow_does_not_hold_up_a_stop(service, too_slow, monkeypatch):
    monkeypatch.setattr("quarterdeck.web.live.LEAVE_WITHIN", 0.1)
    async with given_up(service, too_slow):
        await eventually(lambda: service.engine.live.topics.followed == 0)
        service.runtime.drain()
        await eventually(lambda: service.connections.live == 0)


@pytest.mark.parametrize(("first", "code"), [('{"op":"ping"}', 4429), ("[]", 4400)], ids=["fast", "bad"])
async def test_who_sends_on_and_on_hears_why_it_ends(service, first, code):
    """A client that fails to send has no look at what came before, so it must not fail: browsers are like that."""

    async def sending():
        async with connected(service.url) as peer:
            with suppress(ConnectionClosed):
                await peer.connection.send(first)
                for number in range(30_000):
                    await peer.connection.send('{"op":"ping"}')
                    if number % 500 == 0:
                        await asyncio.sleep(0)
            return await peer.closed()

    for _ in range(3):
        assert await asyncio.to_thread(asyncio.run, sending()) == code  # not in the service's loop: both go on at once


async def test_a_ticket_that_cannot_be_looked_up_is_no_wrong_ticket(serve, monkeypatch):
    service = await serve(**KEYS)
    async with httpx.AsyncClient(base_url=service.url, headers=KEY, trust_env=False) as http:
        ticket = (await http.post("/v1/tickets")).json()["ticket"]

    async def out(_):
        raise Unavailable("the database is out")

    with monkeypatch.context() as patched:
        patched.setattr(service.engine.live.tickets, "redeem", out)
        async with service.connected(query=f"?ticket={ticket}") as peer:
            assert await peer.closed() == 1011
    async with service.connected(query=f"?ticket={ticket}") as peer:
        await peer.send(op="ping")
        assert (await peer.receive())["type"] == "pong"
