import asyncio
import datetime as dt

import asyncpg
import pytest

from tests.support.factories import LEASE, new_worker, open_stores


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def lease_left(stores, worker):
    (row,) = await stores.fetch("select lease_until - now() as left from quarterdeck.worker where id = $1", worker)
    return row["left"].total_seconds()


async def end_lease(stores):
    await stores.execute("update quarterdeck.worker set lease_until = clock_timestamp()")


async def test_a_worker_that_registers_is_there_with_all_it_says_and_a_lease(stores):
    identity = new_worker(host="h", pid=7, role="worker", queues="a,b=5", kinds=["k"], slots=3, version="1.2")
    async with stores.workers() as workers:
        now = await workers.register_worker(identity, LEASE)
    (row,) = await stores.fetch("select * from quarterdeck.worker")
    for field in ("id", "host", "pid", "role", "queues", "kinds", "slots", "version"):
        assert row[field] == getattr(identity, field), field
    assert (row["running"], row["draining"]) == (0, False)
    assert row["lease_until"] - now == pytest.approx(dt.timedelta(seconds=LEASE), abs=dt.timedelta(seconds=5))


async def test_two_workers_cannot_have_the_same_id(stores):
    identity = new_worker()
    async with stores.workers() as workers:
        await workers.register_worker(identity, LEASE)
        with pytest.raises(asyncpg.UniqueViolationError):
            await workers.register_worker(identity, LEASE)


async def test_a_beat_renews_the_lease_and_tells_the_databases_clock(stores):
    worker = await stores.register(lease=10.0)
    async with stores.workers() as workers:
        now = await workers.beat_worker(worker, 100.0, running=5, draining=True)
    (row,) = await stores.fetch("select * from quarterdeck.worker")
    assert (row["running"], row["draining"]) == (5, True)
    assert now >= row["beat_at"] > row["started_at"]
    assert 90 < await lease_left(stores, worker) <= 100


async def test_a_beat_renews_its_own_lease_only(stores):
    mine, other = await stores.register(lease=10.0), await stores.register(lease=10.0)
    async with stores.workers() as workers:
        await workers.beat_worker(mine, 100.0, running=0, draining=False)
    assert await lease_left(stores, other) <= 10


async def test_a_lease_that_is_over_cannot_be_renewed(stores):
    worker = await stores.register()
    await end_lease(stores)
    async with stores.workers() as workers:
        assert await workers.beat_worker(worker, LEASE, running=0, draining=False) is None
    assert await lease_left(stores, worker) <= 0


async def test_a_worker_that_was_buried_cannot_renew(stores):
    worker = await stores.register()
    await end_lease(stores)
    await stores.upkeep.bury_workers()
    async with stores.workers() as workers:
        assert await workers.beat_worker(worker, LEASE, running=0, draining=False) is None


async def test_a_beat_that_waits_for_a_burial_finds_its_lease_lost(stores):
    worker = await stores.register()
    async with stores.workers() as workers:
        beat = await _beat_during_a_burial(stores, workers, worker)
        assert await beat is None


async def _beat_during_a_burial(stores, workers, worker):
    async with stores.transaction() as other:
        # Whoever buries holds the row; the lease was alive when this beat was sent.
        await other.execute("update quarterdeck.worker set lease_until = clock_timestamp()")
        beat = asyncio.create_task(workers.beat_worker(worker, LEASE, running=0, draining=False))
        await stores.until_somebody_waits()
        assert len(await other.upkeep.bury_workers()) == 1
    return beat


async def test_a_worker_that_leaves_is_gone_at_once(stores):
    worker, other = await stores.register(), await stores.register()
    async with stores.workers() as workers:
        await workers.deregister_worker(worker)
        await workers.deregister_worker(worker)
    assert [row["id"] for row in await stores.fetch("select id from quarterdeck.worker")] == [other]
