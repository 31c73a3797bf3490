"""How connections are seen off: what was asked is answered, and nobody is cut off in the middle."""

import asyncio
import contextlib
from time import monotonic

import pytest

from quarterdeck.cli import connections
from quarterdeck.cli.connections import Connections
from quarterdeck.cli.listen import listen
from quarterdeck.cli.server import load_config
from tests.support.waiting import eventually

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


class Application:
    """Answers once it may; `asked` counts the requests that have come."""

    def __init__(self):
        self.may = asyncio.Event()
        self.may.set()
        self.asked = asyncio.Semaphore(0)

    async def __call__(self, _scope, _receive, send):
        self.asked.release()
        await self.may.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


class Client:
    def __init__(self, reader, writer):
        self._reader = reader
        self._writer = writer

    def ask(self):
        self._writer.write(REQUEST)

    async def answer(self):
        """The head of the next answer, in lower case; empty where the connection has ended instead."""
        with contextlib.suppress(asyncio.IncompleteReadError):
            head = await self._reader.readuntil(b"\r\n\r\n")
            assert await self._reader.readexactly(2) == b"ok"
            return head.lower().decode()
        return ""

    async def has_ended(self):
        return await self._reader.read() == b""


@pytest.fixture
def app():
    return Application()


@pytest.fixture
async def door(app):
    listener = listen("127.0.0.1:0", 10)
    opened = Connections(app, load_config(), listener)
    opened.port = listener.getsockname()[1]
    await opened.open()
    yield opened
    app.may.set()
    await opened.refuse()
    await opened.see_off(5)


@pytest.fixture
async def client(door):
    async with calling(door) as client:
        yield client


@contextlib.asynccontextmanager
async def calling(door):
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


async def test_a_connection_is_kept_as_long_as_nothing_stops(client):
    for _ in range(3):
        client.ask()
        assert "connection: close" not in await client.answer()


async def test_a_client_that_has_gone_is_forgotten_at_once(door):
    async with calling(door) as client:
        client.ask()
        await client.answer()
        assert door._live
    await eventually(lambda: not door._live)


async def test_a_request_on_a_kept_connection_is_answered_with_the_word_that_it_is_the_last(door, client):
    client.ask()
    await client.answer()
    await door.refuse()
    client.ask()
    assert "connection: close" in await client.answer()
    assert await client.has_ended()


async def test_a_request_under_way_is_answered_with_the_word_that_it_is_the_last(door, client, app):
    app.may.clear()
    client.ask()
    await app.asked.acquire()
    await door.refuse()
    app.may.set()
    assert "connection: close" in await client.answer()
    assert await client.has_ended()


async def test_who_was_let_in_before_the_door_closed_may_still_ask(door):
    async with calling(door) as late:
        await eventually(lambda: door._live)
        await door.refuse()
        late.ask()
        assert "connection: close" in await late.answer()


async def test_a_silent_connection_is_closed_after_a_while_that_is_counted_from_its_last_answer(
    door, client, monkeypatch
):
    monkeypatch.setattr(connections, "LINGER", 0.2)
    since = monotonic()
    client.ask()
    await client.answer()
    await door.refuse()
    assert await client.has_ended()
    assert monotonic() - since > 0.19
    async with asyncio.timeout(20):
        await door.see_off(60)


async def test_nobody_is_let_in_any_more(door):
    await door.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", door.port)


async def test_others_who_share_the_socket_go_on_letting_in(app):
    listener = listen("127.0.0.1:0", 10)
    ours, theirs = (Connections(app, load_config(), each) for each in (listener.dup(), listener.dup()))
    ours.port = listener.getsockname()[1]
    listener.close()
    await ours.open()
    await ours.refuse()
    async with calling(ours) as waiting:
        waiting.ask()
        await theirs.open()
        assert "200" in await waiting.answer()
    await theirs.refuse()
    await theirs.see_off(5)


async def test_a_request_that_hangs_is_not_waited_for_for_ever(door, client, app):
    app.may.clear()
    client.ask()
    await app.asked.acquire()
    await door.refuse()
    began = monotonic()
    await door.see_off(0.2)
    assert monotonic() - began < 20


async def test_a_connection_from_after_the_failure_is_not_kept_but_let_in(door):
    door.close_after_answers()
    async with calling(door) as late:
        late.ask()
        assert "connection: close" in await late.answer()


async def test_a_door_that_is_closed_does_not_open(app):
    listener = listen("127.0.0.1:0", 10)
    port = listener.getsockname()[1]
    door = Connections(app, load_config(), listener)
    await door.refuse()
    await door.open()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
