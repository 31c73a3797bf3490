"""`python -m benchmarks.live`: the live channel: how soon, how many, and what an idle socket costs.

The servers are `qd serve` processes, the client is the `websockets` library in this one: it shares the machine, and its
own work is in every figure.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import click
from websockets.asyncio.client import ClientConnection

from benchmarks.bench import Bench, opened
from benchmarks.list_pages import quantile
from benchmarks.live_service import ECHO, END, KIB, ask, at, frame, rss, serving, socket
from benchmarks.live_stalled import slow
from quarterdeck.telemetry import log

BARS = {"one process p50": 5.0, "one process p99": 25.0, "web and worker apart p50": 10.0, "KiB an idle socket": 40.0}
BARS |= {
    "p99 beside stalled sockets": 250.0,
    "MiB that stalled sockets take": 100.0,
    "seconds until all stalled are closed": 10.0,
    "% of jobs lost to stalled sockets": 5.0,
}


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
