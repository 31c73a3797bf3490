"""A job that was lost with two workers runs alone, and nothing waits longer than that takes."""

import asyncio
from functools import partial

import pytest

from quarterdeck import Quarterdeck
from tests.support.factories import history, open_stores
from tests.support.running import running, worker_of
from tests.support.waiting import eventually


class Stage:
    """A deck whose jobs say when they run, and wait until they are let go."""

    def __init__(self) -> None:
        self.running: set[str] = set()
        self.seen_together: list[set[str]] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.deck = Quarterdeck()

        @self.deck.handler()
        async def act(name: str) -> str:
            self.running.add(name)
            self.seen_together.append(set(self.running))
            await self.gates.setdefault(name, asyncio.Event()).wait()
            self.running.discard(name)
            return name

    def let_go(self, *names: str) -> None:
        for name in names:
            self.gates.setdefault(name, asyncio.Event()).set()


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def submit_suspect(runtime, stores, name):
    """Submit a job that cannot be claimed before it is a suspect; return its handle."""
    job = await runtime.engine.jobs.submit_by_name("act", {"name": name}, delay=3600)
    await stores.execute(
        "update quarterdeck.job set crashes = 2, state = 'available', run_at = now() where id = $1", job.id
    )
    return job


async def secluded(runtime, stage, stores):
    """A job that runs, and a suspect that waits for its end; their handles."""
    first = await runtime.engine.jobs.submit_by_name("act", {"name": "first"})
    await eventually(lambda: stage.running == {"first"})
    suspect = await submit_suspect(runtime, stores, "suspect")
    await eventually(lambda: runtime.engine.parts.executor.secluded)
    return first, suspect


async def test_a_suspect_waits_for_what_runs_and_everything_waits_for_it(database_url, stores):
    stage = Stage()
    async with running(database_url, stage.deck) as runtime:
        first, suspect = await secluded(runtime, stage, stores)
        later = [await runtime.engine.jobs.submit_by_name("act", {"name": f"later {n}"}) for n in range(3)]
        assert stage.running == {"first"}

        stage.let_go("first")
        await eventually(lambda: stage.running == {"suspect"})
        assert await first.result(timeout=30) == "first"
        assert {(await stores.row(job.id))["state"] for job in later} == {"available"}

        stage.let_go("suspect", "later 0", "later 1", "later 2")
        assert await suspect.result(timeout=30) == "suspect"
        assert [await job.result(timeout=30) for job in later] == ["later 0", "later 1", "later 2"]
    assert all(names == {"suspect"} for names in stage.seen_together if "suspect" in names)
    assert history(await stores.row(suspect.id)) == ["submitted", "started", "completed"]


async def test_what_a_claim_under_way_brings_goes_back(database_url, stores):
    stage = Stage()
    async with running(database_url, stage.deck) as runtime:
        engine = runtime.engine
        first, _ = await secluded(runtime, stage, stores)
        later = await engine.jobs.submit_by_name("act", {"name": "later"})
        claim = partial(engine.parts.attempts.claim_jobs, "default", 1, worker_of(runtime), ["act"])
        (claimed,) = await eventually(claim)  # a claim that was under way may have had it for a moment
        assert claimed.id == later.id
        engine.parts.holdings.add(claimed.id, claimed.fence, claimed.queue)
        engine.parts.executor.accept(claimed)

        async def given_back() -> bool:
            row = await stores.row(later.id)
            return (row["state"], row["attempt"]) == ("available", 0)

        await eventually(given_back)
        assert stage.running == {"first"}
        stage.let_go("first", "suspect", "later")
        assert [await job.result(timeout=30) for job in (first, later)] == ["first", "later"]


async def test_the_other_processes_go_on_working(database_url, stores):
    stage, other_stage = Stage(), Stage()
    async with running(database_url, stage.deck) as one, running(database_url, other_stage.deck) as other:
        await submit_suspect(one, stores, "suspect")
        await eventually(lambda: "suspect" in stage.running | other_stage.running)
        busy = stage if "suspect" in stage.running else other_stage
        free, runtime = (other_stage, other) if busy is stage else (stage, one)
        names = [f"job {n}" for n in range(5)]
        free.let_go(*names)
        for name in names:
            job = await runtime.engine.jobs.submit_by_name("act", {"name": name})
            assert await job.result(timeout=30) == name
        assert busy.running == {"suspect"}
        stage.let_go("suspect")
        other_stage.let_go("suspect")


async def test_several_suspects_run_one_after_the_other(database_url, stores):
    stage = Stage()
    async with running(database_url, stage.deck) as runtime:
        names = [f"suspect {n}" for n in range(4)]
        stage.let_go(*names)
        jobs = [await submit_suspect(runtime, stores, name) for name in names]
        assert [await job.result(timeout=30) for job in jobs] == names
        await eventually(lambda: not runtime.engine.parts.executor.secluded)
    assert all(len(together) == 1 for together in stage.seen_together)


async def test_work_goes_on_where_the_suspect_is_cancelled_while_it_waits(database_url, stores):
    stage = Stage()
    async with running(database_url, stage.deck) as runtime:
        first, suspect = await secluded(runtime, stage, stores)
        await runtime.engine.jobs.cancel(suspect.id)
        stage.let_go("second")
        second = await runtime.engine.jobs.submit_by_name("act", {"name": "second"})
        assert await second.result(timeout=30) == "second"
        stage.let_go("first")
        assert await first.result(timeout=30) == "first"
