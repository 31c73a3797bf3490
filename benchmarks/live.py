"""`python -m benchmarks.live`: the live channel: how soon, how many, and what an idle socket costs.

The servers are `qd serve` processes, the client is the `websockets` library in this one: it shares the machine, and its
own work is in every figure.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket as raw
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import psutil  # type: ignore[import-untyped]
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.bench import Bench, opened
from benchmarks.list_pages import quantile
from benchmarks.web import Server, started
from quarterdeck.telemetry import log

ECHO = {"kind": "quarterdeck.echo", "args": {"a": 1}}
END = "job.completed"
KIB = 1024

BARS = {"one process p50": 5.0, "one process p99": 25.0, "web and worker apart p50": 10.0, "KiB an idle socket": 40.0}
BARS |= {
    "p99 beside stalled sockets": 250.0,
    "MiB that stalled sockets take": 100.0,
    "seconds until all stalled are closed": 10.0,
    "% of jobs lost to stalled sockets": 5.0,
}

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


@contextlib.asynccontextmanager
async def serving(bench: Bench, *options: str) -> AsyncIterator[Server]:
    """A `qd serve` on the bench's database."""
    command = ["quarterdeck", "serve", "benchmarks.live_deck:deck", "--bind", "127.0.0.1:0"]
    command += ["--database-url", bench.dsn, "--config", os.devnull, "--log-format", "json", *options]
    name = f"serve-{time.monotonic_ns()}.log"
    async with started(bench.directory / name, command) as process:
        yield await process.ready("/livez", 200)


@contextlib.asynccontextmanager
async def socket(server: Server) -> AsyncIterator[ClientConnection]:
    """A socket that was greeted."""
    url = f"ws://{server.target.host}:{server.target.port}/v1/live"
    async with connect(url, compression=None, proxy=None, max_size=None, ping_interval=None) as connection:
        await connection.recv()
        yield connection


async def frame(connection: ClientConnection) -> dict[str, Any]:
    """The next frame that is no ping."""
    while True:
        found: dict[str, Any] = json.loads(await connection.recv())
        if found["type"] != "ping":
            return found
        await connection.send('{"op":"pong"}')


async def ask(connection: ClientConnection, **request: Any) -> dict[str, Any]:
    """Sends a frame and takes the next one."""
    await connection.send(json.dumps(request))
    return await frame(connection)


async def latencies(connection: ClientConnection, jobs: int, apart: float) -> list[float]:
    """Milliseconds from a submit to its completed event, one job at a time."""
    took = []
    for number in range(jobs):
        begun = time.perf_counter()
        await connection.send(json.dumps({"op": "submit", "ref": str(number), "job": ECHO, "watch": True}))
        while (await frame(connection)).get("event") != END:
            pass
        took.append((time.perf_counter() - begun) * 1000)
        await asyncio.sleep(apart)
    return took


async def one_process(bench: Bench) -> dict[str, float]:
    """Submit and completed event over one socket, nothing else to do: one after the other, and with rests.

    Rested processors and caches are slower: whatever is done only now and then takes about twice as long.
    """
    async with serving(bench) as server, socket(server) as connection:
        await latencies(connection, 100, 0.0)
        took = await latencies(connection, 300, 0.0)
        rare = await latencies(connection, 100, 0.1)
    return {
        "one process p50": quantile(took, 0.5),
        "one process p99": quantile(took, 0.99),
        "one process, 100 ms apart p50": quantile(rare, 0.5),
        "one process, 100 ms apart p99": quantile(rare, 0.99),
    }


async def apart(bench: Bench) -> dict[str, float]:
    """The same with the web process and the worker apart, one job at a time, 100 ms apart."""
    async with (
        serving(bench, "--role", "worker"),
        serving(bench, "--role", "web") as server,
        socket(server) as connection,
    ):
        await latencies(connection, 20, 0.1)
        took = await latencies(connection, 100, 0.1)
    return {"web and worker apart p50": quantile(took, 0.5), "web and worker apart p99": quantile(took, 0.99)}


async def fan_out(bench: Bench, sockets: int) -> dict[str, float]:
    """One job's events to many sockets."""
    lines = 20
    async with serving(bench) as server, contextlib.AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(socket(server)) for _ in range(sockets)]
        job = (
            await ask(
                connections[0], op="submit", ref="1", job={"kind": "talk", "args": {"lines": lines, "pause": 0.1}}
            )
        )["job"]
        for connection in connections:
            await connection.send(json.dumps({"op": "subscribe", "sub": "a", "job": job["id"], "after": 0}))

        async def follow(connection: ClientConnection) -> list[tuple[int, float]]:
            seen: list[tuple[int, float]] = []
            while not seen or seen[-1][0] >= 0:
                found = await frame(connection)
                if found["type"] == "event":
                    seen.append((-1 if found["event"] == END else found["seq"], time.time() - at(found["at"])))
            return seen

        seen = await asyncio.gather(*(follow(connection) for connection in connections))
    late = [seconds * 1000 for each in seen for _, seconds in each[-lines:]]
    return {
        f"one job to {sockets} sockets p50": quantile(late, 0.5),
        f"one job to {sockets} sockets p99": quantile(late, 0.99),
    }


def at(text: str) -> float:
    """A time of the service, in seconds."""
    import datetime as dt  # noqa: PLC0415

    return dt.datetime.fromisoformat(text).timestamp()


async def throughput(bench: Bench, jobs: int) -> dict[str, float]:
    """Events of all jobs over one socket while a backlog drains, by the second of the server's processor time."""
    async with serving(bench, "--role", "web") as server, socket(server) as connection:
        await ask(connection, op="subscribe", sub="all", all=True)
        async with serving(bench, "--role", "worker"), socket(server) as submits:
            cpu, begun, events, done = server.cpu(), time.perf_counter(), 0, 0

            async def submit() -> None:
                for start in range(0, jobs, 500):
                    await ask(submits, op="submit", ref=str(start), jobs=[ECHO] * min(500, jobs - start))

            submitting = asyncio.create_task(submit())
            while done < jobs:
                found = await frame(connection)
                events += found["type"] == "event"
                done += found.get("event") == END
                assert found["type"] != "gap", found
            await submitting
            seconds, used = time.perf_counter() - begun, server.cpu() - cpu
    return {"events/s of a feed": events / seconds, "events a second of processor time": events / used}


async def idle(bench: Bench, sockets: int) -> dict[str, float]:
    """Memory of sockets that follow one job each and hear nothing."""
    async with serving(bench) as server, contextlib.AsyncExitStack() as stack:
        for _ in range(20):  # what the first sockets make is there for all
            async with socket(server):
                pass
        job = (
            await ask(
                await stack.enter_async_context(socket(server)), op="submit", ref="1", job={**ECHO, "delay": "1h"}
            )
        )["job"]
        before = rss(server.process)
        for _ in range(sockets):
            connection = await stack.enter_async_context(socket(server))
            await ask(connection, op="subscribe", sub="a", job=job["id"])
        grown = (rss(server.process) - before) / sockets / KIB
    return {"KiB an idle socket": grown}


def rss(process: psutil.Process) -> int:
    """Bytes of memory that a process holds."""
    return int(process.memory_info().rss)


async def watched(bench: Bench, jobs: int) -> dict[str, float]:
    """Jobs submitted at one replica and watched one by one at the other; every seq must come once, in order."""
    async with serving(bench) as one, serving(bench) as two, socket(one) as submits, socket(two) as watches:
        begun = time.perf_counter()
        ids = []
        for start in range(0, jobs, 250):
            answer = await ask(submits, op="submit", ref=str(start), jobs=[ECHO] * 250)
            ids += [job["id"] for job in answer["jobs"]]
        for job_id in ids:
            await watches.send(json.dumps({"op": "subscribe", "sub": job_id, "job": job_id, "after": 0}))
        seqs: dict[str, list[int]] = {job_id: [] for job_id in ids}
        done = 0
        while done < jobs:
            found = await frame(watches)
            if found["type"] == "event":
                seqs[found["sub"]].append(found["seq"])
                done += found["event"] == END
        took = time.perf_counter() - begun
        assert all(each == list(range(1, len(each) + 1)) for each in seqs.values())
    return {f"seconds for {jobs} jobs watched at the other replica": took}


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


CASES: dict[str, Callable[[Bench], Awaitable[dict[str, float]]]] = {
    "one process": one_process,
    "apart": apart,
    "fan-out": partial(fan_out, sockets=1000),
    "throughput": partial(throughput, jobs=5000),
    "idle": partial(idle, sockets=500),
    "watched": partial(watched, jobs=1000),
    "slow": slow,
}


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(CASES)), help="These cases. Repeatable.")
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path), help="Where the database is made.")
def main(only: Sequence[str], directory: Path | None) -> None:
    """Measure the live channel. Exits with 1 where a bar is missed."""
    log.configure("warning", "console")
    raise SystemExit(asyncio.run(_run(only or list(CASES), directory)))


async def _run(names: Sequence[str], directory: Path | None) -> int:
    missed = 0
    async with opened(directory) as bench:
        for name in names:
            await bench.fresh()
            for figure, value in (await CASES[name](bench)).items():
                bar = BARS.get(figure)
                bad = bar is not None and value > bar
                missed += bad
                print(
                    f"{figure:50} {value:10.1f}"
                    + ("" if bar is None else f"   bar {bar:g}{'  MISSED' if bad else ''}"),
                    flush=True,
                )
    return int(missed > 0)


if __name__ == "__main__":
    main()
