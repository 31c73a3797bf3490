"""A worker that lost its lease and is back: what it does about the jobs that it had."""

import asyncio

import pytest

from quarterdeck import Quarterdeck
from tests.support.factories import history, open_stores
from tests.support.running import running, worker_of
from tests.support.waiting import eventually


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


@pytest.fixture
def gate():
    return asyncio.Event()


@pytest.fixture
def deck(gate):
    deck = Quarterdeck()

    @deck.handler()
    async def hold() -> str:
        await gate.wait()
        return "done"

    return deck


async def started(runtime):
    job = await runtime.engine.jobs.submit_by_name("hold")
    await eventually(lambda: runtime.engine.parts.executor.running == 1)
    return job


async def test_a_worker_that_was_only_away_takes_the_crash_back(database_url, stores, deck, gate):
    async with running(database_url, deck, lease=3.0) as runtime:
        job = await started(runtime)
        # What others do where it has not beaten for a lease. It does not know yet, and must not claim the job again.
        await stores.execute("insert into quarterdeck.queue (name, paused) values ('default', true)")
        async with stores.transaction() as others:  # a beat that comes meanwhile waits
            await others.execute("update quarterdeck.worker set lease_until = now() - interval '1 second'")
            assert len(await others.upkeep.bury_workers()) == 1
            assert len(await others.upkeep.rescue_jobs(10)) == 1
            assert (await others.row(job.id))["crashes"] == 1

        async def forgiven() -> bool:
            return (await stores.row(job.id))["crashes"] == 0

        await eventually(forgiven, within=15)
        await stores.execute("delete from quarterdeck.queue")
        gate.set()
        assert await job.result(timeout=30) == "done"
    row = await stores.row(job.id)
    assert (row["crashes"], row["attempt"]) == (0, 1)


async def test_what_nobody_took_is_given_back_without_a_crash(database_url, stores, deck, gate):
    async with running(database_url, deck, lease=3.0) as runtime:
        job = await started(runtime)
        runtime.engine.parts.lease.lose(worker_of(runtime))
        await eventually(lambda: worker_of(runtime), within=15)
        gate.set()
        assert await job.result(timeout=30) == "done"
    row = await stores.row(job.id)
    assert (row["crashes"], row["attempt"]) == (0, 1)
    assert "interrupted" in history(row)
