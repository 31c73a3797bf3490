"""Clients that break the protocol, send too much, or do not read: the right end, and bounded memory."""

import asyncio
import json
import time
from contextlib import suppress

import psutil
import pytest

from tests.support.raw_sockets import BINARY, PING, TEXT, ended, frame, opened, text_frame
from tests.support.waiting import eventually

CONTINUATION = 0x0
MEGABYTE = 2**20


def sent(url, data):
    """Sends bytes on a fresh socket; returns the code by which it ends."""
    with opened(url) as connection:
        with suppress(ConnectionError):
            connection.sendall(data)
        return ended(connection)


@pytest.mark.parametrize(
    ("data", "codes"),
    [
        (frame(TEXT, b"\xff\xfe{}"), {1007}),
        (frame(TEXT, b'{"op":"ping"', final=False) + frame(CONTINUATION, b"\xc3"), {1007}),
        (frame(TEXT, b"{}", reserved=4), {1002}),
        (frame(0x3, b"{}"), {1002}),
        (frame(TEXT, b"{}", masked=False), {1002}),
        (frame(CONTINUATION, b"{}"), {1002}),
        (frame(TEXT, b"{", final=False) + frame(TEXT, b"}"), {1002}),
        (frame(PING, b"a" * 126), {1002}),
        (frame(PING, b"a", final=False), {1002}),
        (frame(BINARY, b'{"op":"ping"}'), {4400}),
        (frame(BINARY, b""), {4400}),
        (text_frame("[1]"), {4400}),
        (frame(TEXT, b"a" * 200_000, final=False) + frame(CONTINUATION, b"a" * 100_000), {1009, 4413}),
        (frame(TEXT, b"a" * MEGABYTE), {1009, 4413}),
    ],
)
async def test_who_breaks_the_protocol_hears_how(service, data, codes):
    assert await asyncio.to_thread(sent, service.url, data) in codes
    await eventually(lambda: service.engine.live.listeners == 0)


async def test_pings_of_the_protocol_are_answered(service):
    def asked():
        with opened(service.url) as connection:
            connection.sendall(frame(PING, b"are you there"))
            connection.settimeout(5)
            received = b""
            while b"are you there" not in received:
                received += connection.recv(1000)

    await asyncio.to_thread(asked)


async def test_a_message_in_a_great_many_pieces_is_one(service):
    def asked():
        pieces = frame(TEXT, b'{"op"', final=False) + frame(CONTINUATION, b"", final=False) * 20_000
        with opened(service.url) as connection:
            connection.sendall(pieces + frame(CONTINUATION, b':"ping"}'))
            connection.settimeout(10)
            received = b""
            while b'{"type":"pong"}' not in received:
                received += connection.recv(1000)

    await asyncio.to_thread(asked)


async def test_who_sends_on_without_end_takes_no_memory(service):
    """After a frame that is too long the client neither reads nor stops."""
    memory = psutil.Process().memory_info

    def send_on():
        before = memory().rss
        chunk = frame(TEXT, b"a" * MEGABYTE, final=False)
        more = frame(CONTINUATION, b"a" * MEGABYTE, final=False)
        with opened(service.url) as connection:
            began = time.monotonic()
            try:
                connection.sendall(chunk)
                while time.monotonic() - began < 20:
                    connection.sendall(more)
            except ConnectionError:
                pass
            return memory().rss - before, time.monotonic() - began

    grown, seconds = await asyncio.to_thread(send_on)
    assert grown < 60 * MEGABYTE
    assert seconds < 20


async def test_who_does_not_read_is_sent_away_while_the_others_are_served(service, monkeypatch):
    monkeypatch.setattr("quarterdeck.web.socket.SEND_TIMEOUT", 1.0)
    monkeypatch.setattr("quarterdeck.web.socket.CATCH_UP_TIMEOUT", 1.5)

    def stalled():
        connection = opened(service.url, receive_buffer=4096)
        connection.sendall(text_frame(json.dumps({"op": "subscribe", "sub": "t", "topic": "news"})))
        return connection

    stuck = [await asyncio.to_thread(stalled) for _ in range(10)]
    try:
        async with service.connected() as healthy:
            await healthy.ask(op="subscribe", sub="t", topic="news")
            await eventually(lambda: service.engine.live.listeners == 11)
            began = time.monotonic()
            number = 0
            while service.engine.live.listeners > 1:
                assert time.monotonic() - began < 40
                number += 1
                ok = await healthy.ask(op="publish", ref=str(number), topic="news", data="a" * 60_000)
                assert ok["type"] == "ok"
            await healthy.until(lambda message: message.get("id") == ok["id"])
            ids = [message["id"] for message in healthy.frames if message["type"] == "message"]
            assert ids == list(range(ids[0], ids[-1] + 1))
        assert len(service.connections._live) <= 1
    finally:
        for connection in stuck:
            connection.close()
