"""Servers that drip, flood, lie and break off: a call ends in time, keeps little, and says what was wrong."""

import asyncio
import gzip
import socket
import struct
import tracemalloc

import pytest

from quarterdeck.handlers.dialer import CallFailed
from quarterdeck.handlers.http import AnswerRefused
from quarterdeck.handlers.outbound import MAX_BODY
from tests.support.waiting import eventually
from tests.support.web_servers import always, reply, web_server

CHUNK = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"


def reset(writer):
    """Breaks the connection off with a RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def drip(asked, writer):
    """A byte now and then, for ever: no single read takes long."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.01)


async def drip_headers(asked, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.01)


async def never_answer(asked, writer):
    await asyncio.Event().wait()


async def go_on_for_ever(asked, writer):
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("answer", [drip, drip_headers, never_answer, go_on_for_ever])
async def test_whatever_a_server_does_the_time_limit_of_the_attempt_ends_the_call(call, answer):
    async with web_server(answer) as server:
        attempt = asyncio.create_task(call(server.url()))
        await eventually(lambda: server.asked)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await attempt
        assert attempt.cancelled()
        await eventually(lambda: not server.open)


async def test_where_the_job_has_no_time_limit_there_is_one_all_the_same(call, monkeypatch):
    monkeypatch.setattr("quarterdeck.handlers.http.LONGEST", 0.2)
    async with web_server(drip) as server:
        with pytest.raises(CallFailed, match=r"^GET http://\S+ was not answered within 0.2 s"):
            await call(server.url(), timeout=None)


@pytest.mark.parametrize("head", [b"Transfer-Encoding: chunked", b"Content-Length: 10000000000"])
async def test_of_a_body_without_an_end_the_beginning_is_kept(call, head):
    sent = 0

    async def flood(asked, writer):
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        while True:
            writer.write(CHUNK)
            await writer.drain()
            sent += len(CHUNK)

    async with web_server(flood) as server:
        tracemalloc.start()
        result = await call(server.url())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        await eventually(lambda: not server.open)
    assert (len(result["body"]), result["truncated"]) == (MAX_BODY, True)
    assert peak < 20 * MAX_BODY, "what is read, what is sent, and the buffers between"
    assert sent < 200 * MAX_BODY


@pytest.mark.parametrize(("size", "truncated"), [(MAX_BODY, False), (MAX_BODY + 1, True)])
async def test_a_body_is_cut_only_where_it_is_too_long(call, size, truncated):
    async with web_server(always(reply(200, b"x" * size))) as server:
        result = await call(server.url())
    assert len(result["body"]) == MAX_BODY
    assert result.get("truncated", False) is truncated


async def test_a_bomb_stays_small(call):
    bomb = gzip.compress(bytes(60_000_000))
    async with web_server(always(reply(200, bomb, {"Content-Encoding": "gzip"}))) as server:
        tracemalloc.start()
        result = await call(server.url())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (len(result["body"]), result["truncated"]) == (MAX_BODY, True)
    assert peak < 20 * MAX_BODY


async def break_off_the_body(asked, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await writer.drain()
    reset(writer)


async def end_too_soon(asked, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await writer.drain()
    writer.close()


async def end_within_a_chunk(asked, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhalf")
    await writer.drain()
    writer.close()


async def say_nothing(asked, writer):
    writer.close()


async def break_off_at_once(asked, writer):
    reset(writer)


ODD = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
    "memcached": b"ERROR\r\nERROR\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nabc",
    "a chunk that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "huge headers": b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"x" * 300_000 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 100_000 + b"\r\n",
    "an upgrade that nobody asked for": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize(
    "answer", [break_off_the_body, end_too_soon, end_within_a_chunk, say_nothing, break_off_at_once]
)
async def test_an_answer_that_breaks_off_is_a_failed_attempt(call, answer):
    async with web_server(answer) as server:
        with pytest.raises(CallFailed, match=r"^the connection to 127\.0\.0\.1:\d+ broke: "):
            await call(server.url())


@pytest.mark.parametrize("odd", ODD)
async def test_what_is_no_http_is_a_failed_attempt(call, odd):
    async with web_server(always(ODD[odd])) as server:
        with pytest.raises(CallFailed, match="is no HTTP"):
            await call(server.url())
        assert server.connections == 1


async def test_a_server_that_answers_before_it_has_read_is_heard(call):
    async def early(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply(413, b"too much"))
        await writer.drain()
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(early, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(AnswerRefused, match="413"):
        await call(f"http://127.0.0.1:{port}/", body="x" * 100_000)
    server.close()
