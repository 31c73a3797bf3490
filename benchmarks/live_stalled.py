"""Sockets that do not read, and what they cost those that do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket as raw
import statistics
import time
from collections.abc import Iterator
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]
from websockets.asyncio.client import ClientConnection

from benchmarks.bench import Bench
from benchmarks.list_pages import quantile
from benchmarks.live_service import ECHO, END, KIB, ask, at, frame, rss, serving, socket
from benchmarks.web import Server

STALLED, HEALTHY = 200, 10
EVENTS = 200.0
"""A second, for each of the healthy."""
FLOOD = 80
"""Messages of 50 kB for the stalled: more than the kernel takes for one that does not read."""
SLOW_SECONDS = 5.0
ROUNDS = 8
LOOKS = 0.5
"""Seconds between looks at the server's connections, which cost processor time: 5 % of a core at 0.1."""
GIVEN_UP = 60.0
"""Seconds, for sockets that nobody closes."""
OTHERS = 2
"""Connections beside the healthy ones: who submits, and who publishes."""


async def slow(bench: Bench) -> dict[str, float]:
    """Sockets that stop to read, beside some that read 200 events a second each and a load of jobs; and without.

    In turns, because the machine's own speed drifts by more than what is looked for; the processor time of the server
    for each job drifts less.
    """
    async with serving(bench, "--concurrency", "40") as server:
        await beside(server, SLOW_SECONDS)
        before = rss(server.process)
        alone: list[Round] = []
        among: list[Round] = []
        closed, most = [], 0
        for _ in range(ROUNDS):
            alone.append(await beside(server, SLOW_SECONDS))
            seconds, peak, found = await beside_stalled(server)
            among.append(found)
            closed.append(seconds)
            most = max(most, peak)
    lost = [100 * (1 - ours.rate / theirs.rate) for ours, theirs in zip(among, alone, strict=True)]
    return {
        "p99 beside stalled sockets": quantile([ms for each in among for ms in each.late], 0.99),
        "MiB that stalled sockets take": (most - before) / KIB / KIB,
        "seconds until all stalled are closed": max(closed),
        "% of jobs lost to stalled sockets": 100
        * (1 - statistics.median(each.rate for each in among) / statistics.median(each.rate for each in alone)),
        "% of jobs lost, the best round": min(lost),
        "% of jobs lost, the worst round": max(lost),
        "% more processor time of the server for a job": 100
        * (statistics.median(each.cost for each in among) / statistics.median(each.cost for each in alone) - 1),
        "jobs/s beside stalled sockets": statistics.median(each.rate for each in among),
    }


class Round(NamedTuple):
    """What a load of jobs beside healthy sockets came to."""

    rate: float
    """Jobs a second."""
    cost: float
    """Milliseconds of the server's processor time for a job, the healthy sockets' share in it."""
    late: list[float]
    """Milliseconds from each event to the healthy ones."""


async def beside_stalled(server: Server) -> tuple[float, int, Round]:
    """A round beside stalled sockets, how long it took to close them all, and the server's largest memory in bytes."""
    most = 0

    async def closed() -> float:
        nonlocal most
        begun = time.perf_counter()
        while await asyncio.to_thread(served, server) > HEALTHY + OTHERS:
            most = max(most, rss(server.process))
            if time.perf_counter() - begun > GIVEN_UP:
                break
            await asyncio.sleep(LOOKS)
        return time.perf_counter() - begun

    with contextlib.ExitStack() as stack:
        for _ in range(STALLED):
            stack.enter_context(stuck(server))
        closing = asyncio.create_task(closed())
        async with socket(server) as publishes:
            for number in range(FLOOD):  # it fills the kernel's buffers, which is not what is measured
                await ask(publishes, op="publish", ref=str(number), topic="flood", data="a" * 50_000)
        found = await beside(server, SLOW_SECONDS)
        seconds = await closing
    return seconds, max(most, rss(server.process)), found


async def beside(server: Server, seconds: float) -> Round:
    """A load of jobs while healthy sockets follow a job each that logs steadily."""
    late: list[float] = []
    talk = {"kind": "talk", "args": {"lines": round(seconds * EVENTS), "pause": 1 / EVENTS}}

    async def follow(connection: ClientConnection) -> None:
        await connection.send(json.dumps({"op": "submit", "ref": "talk", "job": talk, "watch": True}))
        while (found := await frame(connection)).get("event") != END:
            if found.get("event") == "job.log":
                late.append((time.time() - at(found["at"])) * 1000)

    async with contextlib.AsyncExitStack() as stack:
        healthy = [await stack.enter_async_context(socket(server)) for _ in range(HEALTHY)]
        submits = await stack.enter_async_context(socket(server))
        following = [asyncio.create_task(follow(each)) for each in healthy]
        begun, used, done = time.perf_counter(), cpu(server.process), 0
        while time.perf_counter() - begun < seconds:
            await submits.send(json.dumps({"op": "submit", "ref": str(done), "jobs": [ECHO] * 20, "watch": True}))
            ended = 0
            while ended < 20:
                ended += (await frame(submits)).get("event") == END
            done += 20
        rate = done / (time.perf_counter() - begun)
        cost = (cpu(server.process) - used) * 1000 / done
        await asyncio.gather(*following)
    return Round(rate, cost, late)


def cpu(process: psutil.Process) -> float:
    """Seconds of processor time that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


@contextlib.contextmanager
def stuck(server: Server) -> Iterator[raw.socket]:
    """A socket that follows a topic and never reads."""
    with raw.socket() as connection:
        connection.setsockopt(raw.SOL_SOCKET, raw.SO_RCVBUF, 4096)
        connection.connect((server.target.host, server.target.port))
        connection.sendall(
            f"GET /v1/live HTTP/1.1\r\nHost: {server.target.host}:{server.target.port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while not connection.recv(1, raw.MSG_PEEK) or b"\r\n\r\n" not in connection.recv(2048):
            pass
        text = b'{"op":"subscribe","sub":"f","topic":"flood"}'
        connection.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
        yield connection


def served(server: Server) -> int:
    """How many connections of clients the server has open; one that it has closed may not have ended for the kernel."""
    found = server.process.net_connections("tcp")
    return sum(each.status == psutil.CONN_ESTABLISHED and each.laddr.port == server.target.port for each in found)
