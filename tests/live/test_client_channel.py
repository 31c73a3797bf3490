"""The Python client against live channels that are not as they should be, and the frames that it sends."""

import asyncio
import json
import uuid
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from websockets.asyncio.server import serve as websocket_server

from quarterdeck.client import (
    Client,
    Forbidden,
    NotFound,
    Unauthenticated,
    UnexpectedAnswer,
    Unreachable,
    connection,
)
from tests.support.processes import free_port
from tests.support.waiting import eventually

NO_JOB = "0193b5c0-0000-7000-8000-000000000000"


async def taken(watch, count):
    async with asyncio.timeout(10):
        return [await anext(watch) for _ in range(count)]


@asynccontextmanager
async def speaking(*frames, code=None):
    """A live channel that says these frames, and closes with a code; yields its URL and what it was asked."""
    asked = []

    async def speak(socket):
        for number, frame in enumerate(frames):
            await socket.send(frame if isinstance(frame, str) else json.dumps(frame))
            if number == 0 and code is None and len(frames) > 2:
                asked.append(json.loads(await socket.recv()))
        if code is None:
            while True:
                asked.append(json.loads(await socket.recv()))
        else:
            await socket.close(code, "as the test says")

    async with websocket_server(speak, "127.0.0.1", 0, subprotocols=["quarterdeck.v1.json"]) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


HELLO = {"type": "hello", "heartbeat": 30, "later": {"version": 2}}


@pytest.mark.parametrize(
    ("frames", "code", "error"),
    [
        ([HELLO], 4401, Unauthenticated),
        ([HELLO], 4403, Forbidden),
        ([HELLO], 4400, UnexpectedAnswer),
        ([{"type": "welcome"}], None, UnexpectedAnswer),
        (["hello"], None, UnexpectedAnswer),
        ([HELLO, "what"], None, UnexpectedAnswer),
    ],
    ids=str,
)
async def test_a_service_that_does_not_want_us_or_is_none(frames, code, error):
    async with speaking(*frames, code=code) as (url, _), Client(url) as client:
        with pytest.raises(error):
            await taken(client.watch(all=True), 1)


async def test_what_a_later_version_says_besides_is_no_trouble():
    event = {
        "type": "event",
        "sub": "1",
        "event": "job.polished",
        "job_id": NO_JOB,
        "seq": 1,
        "generation": 1,
        "cursor": "1-1",
        "at": "2026-01-31T12:00:00.000Z",
        "data": {"gloss": 1.5},
        "shade": "blue",
    }
    frames = [HELLO, {"type": "news", "sub": "1"}, {"type": "subscribed", "sub": "1", "cursor": "1-0"}, event]
    async with speaking(*frames) as (url, asked), Client(url) as client:
        (found,) = await taken(client.watch(all=True), 1)
        assert (found.event, found.job_id, found.data) == ("job.polished", uuid.UUID(NO_JOB), {"gloss": 1.5})
    assert asked[0] == {"op": "subscribe", "sub": "1", "all": True}


async def test_an_address_that_has_no_live_channel(service):
    async with Client(f"{service.url}/elsewhere", patience=0) as client:
        with pytest.raises(NotFound):
            await taken(client.watch(all=True), 1)
    async with Client(f"http://127.0.0.1:{free_port()}", patience=0) as client:
        with pytest.raises(Unreachable):
            await taken(client.watch(all=True), 1)


def event(sub, seq, cursor="", **fields):
    cursor = cursor or str(seq)
    document = {"type": "event", "sub": sub, "event": "job.log", "job_id": NO_JOB, "seq": seq, "generation": 1}
    return {**document, "cursor": cursor, "at": "2026-01-31T12:00:00.000Z", "data": {}, **fields}


@asynccontextmanager
async def answering(*answers, hello=HELLO):
    """A live channel whose connections answer a subscription each by some frames, and are cut then, but for the last.

    Yields its URL and what it was asked.
    """
    asked, left = [], list(answers)

    async def answer(socket):
        await socket.send(json.dumps(hello))
        asked.append(json.loads(await socket.recv()))
        for frame in left.pop(0)(asked[-1]["sub"]):
            await socket.send(json.dumps(frame))
        if left:
            socket.transport.close()
        await socket.wait_closed()

    async with websocket_server(answer, "127.0.0.1", 0, subprotocols=["quarterdeck.v1.json"]) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


def snapshot(sub, seq, state="running"):
    return {"type": "snapshot", "sub": sub, "job": {"seq": seq, "state": state}}


async def test_a_job_goes_on_after_its_last_event_and_gives_none_twice():
    answers = (
        lambda sub: [snapshot(sub, 2), event(sub, 1), event(sub, 2)],
        lambda sub: [snapshot(sub, 2), event(sub, 2), event("another", 3), event(sub, 3), event(sub, 3)],
        lambda sub: [snapshot(sub, 3), event(sub, 4, event="job.completed")],
    )
    async with answering(*answers) as (url, asked), Client(url) as client, asyncio.timeout(10):
        assert [event.seq async for event in client.watch(job=NO_JOB)] == [1, 2, 3, 4]
    assert [frame["after"] for frame in asked] == [0, 2, 3]
    assert len({frame["sub"] for frame in asked}) == 3


async def test_a_feed_goes_on_from_its_last_cursor_and_gives_none_twice():
    answers = (
        lambda sub: [{"type": "subscribed", "sub": sub, "cursor": "a"}],
        lambda sub: [{"type": "subscribed", "sub": sub, "cursor": "a"}, event(sub, 1, "b"), event(sub, 2, "b")],
        lambda sub: [event(sub, 1, "c"), event(sub, 2, "d"), {"type": "gap", "sub": sub, "cursor": "e"}],
        lambda sub: [event(sub, 3, "f")],
    )
    async with answering(*answers) as (url, asked), Client(url) as client:
        found = await taken(client.watch(tag="x"), 4)
    assert [each.cursor for each in found] == ["b", "b", "e", "f"]
    assert [frame.get("cursor") for frame in asked] == [None, "a", "b", "e"]


async def test_a_topic_goes_on_from_its_last_message_and_gives_none_twice():
    def message(sub, number):
        return {"type": "message", "sub": sub, "topic": "t", "id": number, "at": "2026-01-31T12:00:00Z", "data": number}

    answers = (
        lambda sub: [{"type": "subscribed", "sub": sub, "cursor": "7"}, message(sub, 8)],
        lambda sub: [message(sub, 8), message(sub, 9)],
    )
    async with answering(*answers) as (url, asked), Client(url) as client:
        assert [each.id for each in await taken(client.watch(topic="t"), 2)] == [8, 9]
    assert [frame.get("cursor") for frame in asked] == [None, "8"]


async def test_what_the_service_cannot_do_just_now_is_asked_for_again():
    def busy(sub):
        return [
            {"type": "error", "sub": sub, "problem": {"type": "/problems/unavailable", "title": "t", "status": 503}}
        ]

    asked = []

    async def answer(socket):
        await socket.send(json.dumps(HELLO))
        while True:
            asked.append(json.loads(await socket.recv()))
            sub = asked[-1]["sub"]
            for frame in busy(sub) if len(asked) < 3 else [snapshot(sub, 1), event(sub, 1)]:
                await socket.send(json.dumps(frame))

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            websocket_server(answer, "127.0.0.1", 0, subprotocols=["quarterdeck.v1.json"])
        )
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = await stack.enter_async_context(Client(url))
        assert len(await taken(client.watch(job=NO_JOB), 1)) == 1
    assert len(asked) == 3


async def test_a_ping_is_answered_and_silence_is_filled():
    async with speaking({"type": "hello", "heartbeat": 0.3}, {"type": "ping"}) as (url, asked), Client(url) as client:
        watch = asyncio.create_task(anext(client.watch(all=True)))
        await eventually(lambda: {"op": "ping"} in asked)
        assert {"op": "pong"} in asked
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


async def test_who_says_nothing_for_two_heartbeats_is_left():
    async with speaking({"type": "hello", "heartbeat": 0.1}) as (url, asked), Client(url) as client:
        watch = asyncio.create_task(anext(client.watch(all=True)))
        await eventually(lambda: [frame["op"] for frame in asked].count("subscribe") >= 2)
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


async def test_no_more_frames_are_sent_than_the_service_takes(monkeypatch):
    monkeypatch.setattr(connection, "BURST", 10.0)
    monkeypatch.setattr(connection, "RATE", 50.0)
    loop = asyncio.get_running_loop()
    async with speaking(HELLO) as (url, asked), Client(url) as client:
        began = loop.time()
        watches = [asyncio.create_task(anext(client.watch(tag=str(number)))) for number in range(30)]
        await eventually(lambda: len(asked) == 30)
        assert loop.time() - began > 0.3
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
