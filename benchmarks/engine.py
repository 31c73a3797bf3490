"""The engine: the same work through the whole service but HTTP, with an async handler that does nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal

from benchmarks.bench import Bench
from benchmarks.floor import KIND, seed
from benchmarks.measure import Sample, Stopwatch
from quarterdeck.bootstrap import Runtime
from quarterdeck.config import Settings
from quarterdeck.deck import Quarterdeck
from quarterdeck.domain.state import State
from quarterdeck.domain.submission import Submit
from quarterdeck.engine.service import Engine

CONCURRENCY = 100
CALLERS = 200
WARM_UP = 20
START_TIMEOUT = 10.0
RESULT_TIMEOUT = 30.0


class Load:
    """A deck whose one handler counts: it knows when the first and when the last of `jobs` jobs ran."""

    def __init__(self, jobs: int, watch: Stopwatch | None = None) -> None:
        self.deck = Quarterdeck()
        self.all_ran = asyncio.Event()
        self._left = jobs
        self._watch = watch
        self.deck.handler(KIND)(self._noop)

    async def _noop(self) -> None:
        if self._watch is not None:
            self._watch.start()
            self._watch = None
        self._left -= 1
        if not self._left:
            self.all_ran.set()


@contextlib.asynccontextmanager
async def running(bench: Bench, deck: Quarterdeck, *, role: Literal["all", "web"] = "all") -> AsyncIterator[Engine]:
    """A started service on the bench's database. Raises what stopped it, where it stops by itself."""
    settings = Settings(database_url=bench.dsn, role=role, concurrency=CONCURRENCY, migrate=False)
    runtime = Runtime(settings, deck)
    await runtime.start()
    try:
        yield runtime.engine
        if runtime.failure is not None:
            raise runtime.failure
    finally:
        await runtime.stop(grace=0)


async def ready(engine: Engine) -> None:
    """Waits until the engine has its lease, without which it hands nothing off."""
    async with asyncio.timeout(START_TIMEOUT):
        while (await engine.readiness())["engine"] != "ok":  # noqa: ASYNC110 - as /readyz asks
            await asyncio.sleep(0.005)


async def drain(bench: Bench, jobs: int) -> list[Sample]:
    """A backlog that waits when the engine starts: from the first handler's start to the last end written."""
    await seed(bench, jobs)
    watch = Stopwatch()
    load = Load(jobs, watch)
    async with running(bench, load.deck):
        await load.all_ran.wait()
        await bench.settled()
        watch.stop()
    await _check(bench, jobs)
    return [watch.sample("engine/drain", jobs)]


async def submit(bench: Bench, jobs: int) -> list[Sample]:
    """Submits of many callers at once in a process that only stores them (role `web`)."""
    watch = Stopwatch()
    async with running(bench, Load(jobs).deck, role="web") as engine:
        watch.start()
        await _submit_all(engine, jobs, watch)
        watch.stop()
    stored = await bench.one.fetchval("select count(*) from quarterdeck.job where state = 'available'")
    assert stored == jobs, f"{stored} of {jobs} jobs stored"
    return [watch.sample("engine/submit", jobs)]


async def submit_and_run(bench: Bench, jobs: int) -> list[Sample]:
    """Submits of many callers at once, while the same process runs the jobs: until the last end is written."""
    watch = Stopwatch()
    load = Load(jobs)
    async with running(bench, load.deck) as engine:
        await ready(engine)
        watch.start()
        await _submit_all(engine, jobs, watch)
        await load.all_ran.wait()
        await bench.settled()
        watch.stop()
    await _check(bench, jobs)
    return [watch.sample("engine/submit+run", jobs)]


async def latency(bench: Bench, jobs: int) -> list[Sample]:
    """One job at a time, handed off by its own insert: until the submit returns, and until the result is there."""
    watch = Stopwatch()
    handed_off = 0
    async with running(bench, Load(0).deck) as engine:
        await ready(engine)
        for _ in range(WARM_UP):
            await _result(engine, Stopwatch())
        watch.start()
        for _ in range(jobs):
            handed_off += await watch.timed("submit to result", _result(engine, watch))
        watch.stop()
    await _check(bench, jobs + WARM_UP)
    assert handed_off >= jobs * 0.9, f"only {handed_off} of {jobs} jobs were handed off"
    return [watch.sample("engine/latency", jobs)]


async def _result(engine: Engine, watch: Stopwatch) -> bool:
    """Submits a job and waits for its end; says whether it was handed off."""
    job = (await watch.timed("submit", engine.jobs.submit(Submit(kind=KIND)))).job
    ended = await engine.jobs.wait(job.id, RESULT_TIMEOUT)
    assert ended.state is State.COMPLETED, f"a job is {ended.state}"
    return job.state is State.RUNNING


async def _submit_all(engine: Engine, jobs: int, watch: Stopwatch) -> None:
    body = Submit(kind=KIND)
    left = iter(range(jobs))

    async def caller() -> None:
        for _ in left:
            await watch.timed("submit", engine.jobs.submit(body))

    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(caller())


async def _check(bench: Bench, jobs: int) -> None:
    completed = await bench.completed()
    assert completed == jobs, f"{completed} of {jobs} jobs completed"
