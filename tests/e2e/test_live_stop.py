"""How `qd serve` stops while the live channel is in use: everybody is told, and the end comes as soon as without."""

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic

import httpx
import pytest

from tests.e2e.rest import talking_to
from tests.support.processes import running_service
from tests.support.raw_sockets import opened, text_frame
from tests.support.sockets import connected
from tests.support.waiting import eventually

APP = "tests.e2e.decks:deck"
SOCKETS, STREAMS, STALLED = 50, 10, 5
FLOOD = 80
"""Messages of 60 kB: more than the kernel takes for somebody who does not read."""
SOON = 20.0
"""Seconds to the exit, where no job runs and nobody is waited for long; the promise is 25 whatever there is."""

pytestmark = pytest.mark.timeout(120)


async def open_sockets(stack, service, job_id, count=SOCKETS):
    """Sockets that follow a job, all jobs or a topic."""
    targets = [{"job": job_id}, {"all": True}, {"topic": "news"}]
    peers = [await stack.enter_async_context(connected(service.url)) for _ in range(count)]
    for number, peer in enumerate(peers):
        begun = await peer.ask(op="subscribe", sub="a", **targets[number % 3])
        assert begun["type"] in ("snapshot", "subscribed"), begun
    return peers


def open_stalled(url):
    """A socket that follows a topic and never reads."""
    connection = opened(url, receive_buffer=4096)
    connection.sendall(text_frame(json.dumps({"op": "subscribe", "sub": "t", "topic": "flood"})))
    return connection


def stuck_connections(service):
    """How many clients have not read what was sent to them long ago."""
    port = f"{int(service.url.rpartition(':')[2]):04X}"
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(local.endswith(f":{port}") and int(queues[:8], 16) > 0 for _, local, _, _, queues, *_ in sockets)


async def open_streams(stack, service, job_id, count=STREAMS):
    """Event streams of the same; the first piece of each is there."""
    client = await stack.enter_async_context(httpx.AsyncClient(base_url=service.url, timeout=60, trust_env=False))
    paths = [f"/v1/jobs/{job_id}/events", "/v1/events?all=1", "/v1/events?topic=news"]
    found = []
    for number in range(count):
        response = await stack.enter_async_context(client.stream("GET", paths[number % 3]))
        assert response.status_code == httpx.codes.OK
        lines = response.aiter_lines()
        assert (await anext(lines)).startswith("retry:")
        found.append(lines)
    return found


async def told_to_leave(peer):
    """What a socket hears at a stop: when to come back, and the code."""
    drain = (await peer.until(lambda frame: frame["type"] == "drain", 20))[-1]
    code = await peer.closed(20)
    return 0.5 <= drain["reconnect_after"] <= 3.0, code


async def read_to_the_end(lines):
    """An event stream that ends as it should raises nothing."""
    async with asyncio.timeout(20):
        return [line async for line in lines]


async def test_everybody_is_told_and_every_stream_ends_also_beside_sockets_that_never_read(
    tmp_path, database_url, python
):
    settings = {"QUARTERDECK_DATABASE_URL": database_url}
    async with (
        running_service(tmp_path, APP, settings=settings, python=python) as service,
        talking_to(service) as rest,
        AsyncExitStack() as stack,
    ):
        job = await rest.submit("turn", delay="1h")
        peers = await open_sockets(stack, service, job["id"])
        streams = await open_streams(stack, service, job["id"])
        for _ in range(STALLED):
            stack.callback((await asyncio.to_thread(open_stalled, service.url)).close)
        for number in range(FLOOD):
            await peers[0].ask(op="publish", ref=str(number), topic="flood", data="a" * 60_000)
        await eventually(lambda: stuck_connections(service) == STALLED)
        heard = [asyncio.create_task(told_to_leave(peer)) for peer in peers]
        ends = [asyncio.create_task(read_to_the_end(lines)) for lines in streams]
        began = monotonic()
        service.send(signal.SIGTERM)
        assert await asyncio.gather(*heard) == [(True, 1012)] * SOCKETS
        assert len(await asyncio.gather(*ends)) == STREAMS
        assert monotonic() - began < SOON / 2
        assert await service.wait(25) == 0
        assert monotonic() - began < SOON
        assert "Traceback" not in service.log()
        assert "forced" not in service.log()


async def test_with_several_processes_each_sends_its_own_away(tmp_path, database_url):
    settings = {"QUARTERDECK_DATABASE_URL": database_url}
    async with (
        running_service(tmp_path, APP, "--workers", "2", settings=settings) as service,
        talking_to(service) as rest,
        AsyncExitStack() as stack,
    ):
        job = await rest.submit("turn", delay="1h")
        for number, words in ((signal.SIGHUP, "service.rolled"), (signal.SIGTERM, "")):
            peers = await open_sockets(stack, service, job["id"], 12)
            heard = [asyncio.create_task(told_to_leave(peer)) for peer in peers]
            service.send(number)
            assert await asyncio.gather(*heard) == [(True, 1012)] * 12
            await eventually(lambda words=words: words in service.log(), 30)
        assert await service.wait(25) == 0
        assert "Traceback" not in service.log()
