"""Sockets whose clients read slowly, or not at all: they are served less, and the others as ever."""

import asyncio
import json
import time

import psutil
import pytest

from quarterdeck import JobContext, Quarterdeck
from tests.support.raw_sockets import opened, text_frame
from tests.support.sockets import TERMINAL
from tests.support.waiting import eventually

HEALTHY, STALLED = 5, 20
FLOOD = 80
"""Messages of 60 kB: more than the kernel takes for somebody who does not read."""
LINES, LINE = 80, "a line " * 2300
MEGABYTE = 2**20


@pytest.fixture
def go():
    """What lets the jobs begin."""
    return asyncio.Event()


@pytest.fixture
def deck(go):
    deck = Quarterdeck()

    @deck.handler()
    async def write(ctx: JobContext, lines: int) -> int:
        await go.wait()
        for number in range(lines):
            await ctx.log(f"{number} {LINE}")
            await asyncio.sleep(0.005)
        return lines

    @deck.handler()
    async def count(ctx: JobContext, steps: int) -> int:
        await go.wait()
        for step in range(steps):
            await ctx.progress(step / steps, f"{step} and so on")
            await asyncio.sleep(0.02)
        return steps

    return deck


def covered(events):
    return [seq for event in events for seq in range(event.get("merged_from", event["seq"]), event["seq"] + 1)]


def stalled(url, job_ids):
    """A socket that follows jobs and never reads."""
    connection = opened(url, receive_buffer=4096)
    for job_id in job_ids:
        connection.sendall(text_frame(json.dumps({"op": "subscribe", "sub": job_id, "job": job_id, "after": 0})))
    return connection


async def test_who_never_reads_is_sent_away_and_the_others_see_everything(service, http, go, monkeypatch):
    monkeypatch.setattr("quarterdeck.web.socket.SEND_TIMEOUT", 1.0)
    monkeypatch.setattr("quarterdeck.web.socket.CATCH_UP_TIMEOUT", 1.5)
    jobs = [
        (await http.post("/v1/jobs", json={"kind": "write", "args": {"lines": LINES}})).json()["id"] for _ in "abcd"
    ]
    stuck = [await asyncio.to_thread(stalled, service.url, jobs) for _ in range(STALLED)]
    try:
        async with asyncio.TaskGroup() as tasks:
            numbers = range(HEALTHY)
            peers = [tasks.create_task(see_to_the_end(service, jobs[number % len(jobs)])) for number in numbers]
            await eventually(lambda: service.engine.live.listeners == STALLED + HEALTHY)
            before, most = psutil.Process().memory_info().rss, 0
            began = time.monotonic()
            go.set()
            while service.engine.live.listeners > 0:
                most = max(most, psutil.Process().memory_info().rss)
                assert time.monotonic() - began < 40, (
                    f"still there: {service.engine.live.listeners}, {[p.done() for p in peers]}"
                )
                await asyncio.sleep(0.05)
        assert most - before < 60 * MEGABYTE
        for peer in peers:
            assert covered(peer.result()) == list(range(1, LINES + 4))
        await eventually(lambda: len(service.connections._live) <= 1)
    finally:
        for connection in stuck:
            connection.close()


async def see_to_the_end(service, job_id):
    """All events of a job, by somebody who reads."""
    async with service.connected() as peer:
        await peer.ask(op="subscribe", sub="a", job=job_id, after=0)
        return await peer.events("a", within=20)


async def test_who_reads_a_little_gets_one_progress_for_several_and_misses_nothing(service, http, go, monkeypatch):
    monkeypatch.setattr("quarterdeck.engine.streams.MERGED_OVER", 8)
    job = (await http.post("/v1/jobs", json={"kind": "count", "args": {"steps": 150}})).json()["id"]
    async with service.connected(max_queue=1) as peer:
        await peer.ask(op="subscribe", sub="a", job=job, after=0)
        await peer.ask(op="subscribe", sub="flood", topic="flood")
        for _ in range(FLOOD):
            await service.engine.live.publish("flood", "a" * 60_000, tenant="default")
        go.set()
        await eventually(lambda: seq_of(http, job, 20), 20)  # nothing is read meanwhile
        events = await peer.events("a", within=20)
        frames = peer.frames
    final = (await http.get(f"/v1/jobs/{job}")).json()
    seen = [frame for frame in frames if frame.get("sub") == "a" and frame["type"] == "event"]
    assert covered(seen) == list(range(1, final["seq"] + 1))
    assert any("merged_from" in event for event in events)
    assert events[-1]["event"] in TERMINAL
    assert sum(frame["type"] == "message" for frame in frames) == FLOOD
    assert not [frame for frame in frames if frame["type"] in ("gap", "error")]


async def seq_of(http, job_id, least):
    return (await http.get(f"/v1/jobs/{job_id}")).json()["seq"] >= least
