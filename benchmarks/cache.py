"""`python -m benchmarks.cache`: what the cache of results is worth, by the size of the results.

Several ways to read the same ended jobs take turns, on one database, in one run:

- `uncached`: as without a cache; every result is read with its job;
- `miss`: with a cache that never has anything and takes everything, which is what the first read of a result costs;
- `memory`: from the cache inside the process, which is what a service without memcached does;
- `memcached`: from a memcached on this machine, as the first read in each other process does;
- `both`: with the cache inside the process before memcached, which is what a service with memcached does.

Once by the engine's reader alone, and once over HTTP (`GET /v1/jobs/{id}/result`) from a `qd serve` each, with clients
in this process. `probe` is the reader's look at the row without any result: no cache whose answers are checked against
the database can be faster than that.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import random
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import click
import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.__main__ import LOOP, NARROWEST
from benchmarks.bench import Bench, opened
from benchmarks.cache_ways import EVERYTHING
from benchmarks.callers import Caller
from benchmarks.web import Server, started
from quarterdeck.config import parse_servers
from quarterdeck.domain.job import DEFAULT_TENANT
from quarterdeck.engine.absence import Absence
from quarterdeck.engine.calls import Calls
from quarterdeck.engine.reader import Reader
from quarterdeck.store import pool
from quarterdeck.store.cache import Cache
from quarterdeck.store.jobs import JobStore
from quarterdeck.store.memcached import Memcached
from quarterdeck.store.memory import Memory
from quarterdeck.store.shelf import Gauges, Version
from quarterdeck.store.upkeep import UpkeepStore
from quarterdeck.telemetry import log
from quarterdeck.telemetry.metrics import Metrics
from tests.support.memcached import MemcachedProcess

KIB = 1024
SIZES = (200, 8 * KIB, 24 * KIB, 64 * KIB, 128 * KIB, 256 * KIB, 512 * KIB, 1000 * KIB)
JOBS = 20
"""Ended jobs of each size; each caller reads one of them over and over."""
CALLERS = 20
SLICE = 0.25
"""Seconds of one way before the next one has its turn."""
BAR = 1.5
OTHERS = ("miss", "memory", "memcached", "both", "probe")
COMMAND_TIMEOUT = 10.0

_INSERT = """
    insert into quarterdeck.job_history (id, queue, kind, state, args, finalized_at, result, attempt, seq)
    values ($1, 'default', 'echo', 'completed', '{}', now(), $2::json, 1, 3)
"""

Read = Callable[[uuid.UUID], Awaitable[object]]
Rates = Mapping[str, list[float]]
"""Reads a second, round by round, by the name of the way."""


class Nothing:
    """A shelf that takes everything and has nothing."""

    def __init__(self) -> None:
        self._last = b""

    async def get(self, _version: Version) -> bytes | None:
        """Nothing."""
        return None

    def put(self, _version: Version, result: bytes) -> None:
        """Takes it."""
        self._last = result

    def gauges(self) -> Gauges:
        """Nothing."""
        return {}

    async def close(self) -> None:
        """Nothing."""


class Offer(NamedTuple):
    """One way to read: its name, and a reader or a server."""

    name: str
    read: Read


def document(size: int, noise: random.Random) -> str:
    """A result of about so many bytes: records as a report would have them, which compress as such do."""
    records: list[dict[str, object]] = []
    length = 0
    while length < size:
        record = {
            "id": noise.getrandbits(40),
            "name": "".join(noise.choices("abcdefghijklmnopqrstuvwxyz", k=12)),
            "amount": round(noise.uniform(0, 10_000), 2),
            "paid": noise.random() < 0.5,
            "at": f"2031-0{noise.randint(1, 9)}-1{noise.randint(0, 9)}T12:{noise.randint(10, 59)}:00Z",
        }
        records.append(record)
        length += len(msgspec.json.encode(record)) + 1
    return msgspec.json.encode(records).decode()


async def seed(bench: Bench, size: int) -> list[uuid.UUID]:
    """Ended jobs with results of that size, and nothing else."""
    await bench.fresh()
    noise = random.Random(size)
    ids = [bench.ids.next() for _ in range(JOBS)]
    for job_id in ids:
        await bench.one.execute(_INSERT, job_id, document(size, noise))
    return ids


async def rounds(offers: Sequence[Offer], ids: Sequence[uuid.UUID], count: int) -> Rates:
    """Every way takes turns; who begins changes. The first turn of each is not counted."""
    rates: dict[str, list[float]] = {offer.name: [] for offer in offers}
    for offer in offers:
        for _ in range(2):  # both looks of a warm cache: one that fills it, and one that finds it filled
            await asyncio.gather(*map(offer.read, ids))
            await asyncio.sleep(0.05)
    for number in range(count):
        for offer in offers if number % 2 == 0 else reversed(offers):
            rates[offer.name].append(await _rate(offer.read, ids))
    return rates


async def _rate(read: Read, ids: Sequence[uuid.UUID]) -> float:
    done = 0
    begun = time.perf_counter()
    until = begun + SLICE

    async def caller(job_id: uuid.UUID) -> None:
        nonlocal done
        while time.perf_counter() < until:
            await read(job_id)
            done += 1

    await asyncio.gather(*(caller(ids[number % len(ids)]) for number in range(CALLERS)))
    return done / (time.perf_counter() - begun)


# The engine alone


@contextlib.asynccontextmanager
async def reading(store: JobStore, cache: Cache, absence: Absence, largest: int) -> AsyncIterator[Reader]:
    """A reader at work."""
    reader = Reader(store, cache, absence, Metrics("0"), largest=largest)
    loop = asyncio.create_task(reader.run())
    try:
        yield reader
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        await cache.close()


async def engine(bench: Bench, ids: Sequence[uuid.UUID], memcached: str, count: int) -> Rates:
    """By the engine's reader, whatever the size: `memory` and `memcached` hold results of every size here."""
    opened_pool = await pool.open_pool(bench.dsn, name=pool.API, size=5, command_timeout=COMMAND_TIMEOUT)
    try:
        store, metrics = JobStore(opened_pool), Metrics("0")
        shared = partial(Memcached, parse_servers(memcached), b"secret", metrics)
        absence = Absence(UpkeepStore(opened_pool), Calls())
        caches: dict[str, tuple[Cache, int]] = {
            "uncached": (Cache(Nothing()), EVERYTHING),
            "miss": (Cache(Nothing()), 0),
            "memory": (Cache(Memory(metrics)), 0),
            "memcached": (Cache(Nothing(), shared()), 0),
            "both": (Cache(Memory(metrics), shared()), 0),
        }
        async with contextlib.AsyncExitStack() as stack:
            readers = {
                name: await stack.enter_async_context(reading(store, cache, absence, largest))
                for name, (cache, largest) in caches.items()
            }
            offers = [Offer(name, partial(_get, reader)) for name, reader in readers.items()]
            offers.append(Offer("probe", partial(_probe, readers["memory"])))
            return await rounds(offers, ids, count)
    finally:
        await pool.close_pool(opened_pool)


async def _probe(reader: Reader, job_id: uuid.UUID) -> None:
    found = await reader._rows.get(job_id)  # noqa: SLF001 - half of what the reader does
    assert found is not None
    assert found.left_out is not None


async def _get(reader: Reader, job_id: uuid.UUID) -> None:
    job = await reader.get(job_id, DEFAULT_TENANT)
    assert job.result is not None


# Over HTTP


class Client:
    """A connection that is kept, for the result of one job."""

    def __init__(self, server: Server, job_id: uuid.UUID) -> None:
        target = server.target
        request = f"GET /v1/jobs/{job_id}/result HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n\r\n"
        self._address = (target.host, target.port)
        self._came: asyncio.Future[None] | None = None
        self._caller = Caller(request.encode(), 200, self._done)

    async def connect(self) -> None:
        """Opens it."""
        await asyncio.get_running_loop().create_connection(lambda: self._caller, *self._address)

    async def read(self) -> None:
        """One request."""
        self._came = asyncio.get_running_loop().create_future()
        self._caller.send()
        await self._came

    def close(self) -> None:
        """Ends it."""
        self._caller.close()

    def _done(self, took: float | Exception) -> None:
        if self._came is not None and not self._came.done():
            if isinstance(took, Exception):
                self._came.set_exception(took)
            else:
                self._came.set_result(None)


async def http(bench: Bench, ids: Sequence[uuid.UUID], memcached: str, count: int) -> Rates:
    """Over HTTP, as the service is: small results are read with their jobs."""
    settings = bench.directory / "memcached.toml"
    settings.write_text(f'memcached = "{memcached}"\n')
    serve = ["serve", "--role", "web", "--bind", "127.0.0.1:0", "--database-url", bench.dsn, "--log-format", "json"]
    ways = {
        "uncached": ["benchmarks.cache_ways", "uncached", *serve, "--config", os.devnull],
        "memory": ["quarterdeck", *serve, "--config", os.devnull],
        "memcached": ["benchmarks.cache_ways", "far", *serve, "--config", str(settings)],
        "both": ["quarterdeck", *serve, "--config", str(settings)],
    }
    async with contextlib.AsyncExitStack() as stack:
        offers = []
        for name, command in ways.items():
            log_file = bench.directory / f"{name}-{time.monotonic_ns()}.log"
            starting = await stack.enter_async_context(started(log_file, command))
            server = await starting.ready("/livez", 200)
            clients = {job_id: Client(server, job_id) for job_id in ids}
            for client in clients.values():
                await client.connect()
                stack.callback(client.close)
            offers.append(Offer(name, partial(_ask, clients)))
        return await rounds(offers, ids, count)


async def _ask(clients: Mapping[uuid.UUID, Client], job_id: uuid.UUID) -> None:
    await clients[job_id].read()


# All of it


class Figures(NamedTuple):
    """What was found of one size."""

    where: str
    size: int
    rates: Rates


async def measure(sizes: Sequence[int], count: int, *, over_http: bool) -> list[Figures]:
    """Every size, first by the engine and then over HTTP."""
    found = []
    with Console(stderr=True).status("starting PostgreSQL") as status, MemcachedProcess("-m", "256") as memcached:
        async with opened(None) as bench:
            for size in sizes:
                ids = await seed(bench, size)
                status.update(f"engine, {size} bytes")
                found.append(Figures("engine", size, await engine(bench, ids, memcached.address, count)))
                if over_http:
                    status.update(f"HTTP, {size} bytes")
                    found.append(Figures("http", size, await http(bench, ids, memcached.address, count)))
    return found


def table(found: Sequence[Figures]) -> Table:
    """Rates of the uncached way, and of the others over it, round by round: median, least, most."""
    shown = Table("where", "bytes", "uncached/s", *OTHERS, box=None)
    for column in shown.columns[1:]:
        column.justify = "right"
    for where, size, rates in sorted(found):
        ratios = [_ratio(rates[name], rates["uncached"]) if name in rates else "" for name in OTHERS]
        shown.add_row(where, f"{size:,}", f"{statistics.median(rates['uncached']):,.0f}", *ratios)
    return shown


def _ratio(rates: Sequence[float], base: Sequence[float]) -> str:
    ratios = sorted(rate / other for rate, other in zip(rates, base, strict=True))
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"


@click.command()
@click.option("--rounds", "count", type=click.IntRange(1), default=9, show_default=True)
@click.option("--size", "sizes", type=click.IntRange(1), multiple=True, help="Bytes of a result. Repeatable.")
@click.option("--http/--no-http", "over_http", default=True, show_default=True)
def main(count: int, sizes: Sequence[int], *, over_http: bool) -> None:
    """Prints what cached reads are worth beside uncached ones."""
    log.configure("warning", "console")
    console = Console()
    if not console.is_terminal:
        console.width = NARROWEST
    with asyncio.Runner(loop_factory=LOOP) as runner:
        found = runner.run(measure(sizes or SIZES, count, over_http=over_http))
    console.print(f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {CALLERS} callers, {count} rounds; the bar is {BAR}")
    console.print(table(found))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.cache")
