import datetime as dt

import pytest

from tests.support.factories import new_job, open_stores


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def test_an_empty_database_has_nothing_to_do(stores):
    look = await stores.upkeep.tick("w")
    assert (look.next_due, look.expired, look.lapsed, look.cancelling, look.queues) == (None, False, False, [], [])


async def test_a_look_tells_the_databases_clock(stores):
    (row,) = await stores.fetch("select clock_timestamp() as now")
    assert abs((await stores.upkeep.tick("w")).now - row["now"]) < dt.timedelta(seconds=30)


@pytest.mark.parametrize("state", ["scheduled", "retryable"])
async def test_a_look_tells_when_the_next_job_comes_due(stores, state):
    facts = await stores.insert(new_job(delay=500.0), new_job(delay=100.0), new_job(delay=300.0), new_job())
    await stores.execute("update quarterdeck.job set state = $1 where state = 'scheduled'", state)
    assert (await stores.upkeep.tick("w")).next_due == facts[1].run_at


async def test_a_look_names_each_queue_with_available_jobs_once(stores):
    await stores.insert(
        *[new_job(queue=queue) for queue in ("b", "a", "b", "c-2", "Z", "c_1") for _ in range(3)],
        new_job(queue="later", delay=60.0),
    )
    await stores.running(queue="busy")
    assert (await stores.upkeep.tick("w")).queues == ["Z", "a", "b", "c-2", "c_1"]


async def test_a_look_names_many_queues(stores):
    await stores.insert(*[new_job(queue=f"tenant-{number:03}") for number in range(500)])
    assert (await stores.upkeep.tick("w")).queues == [f"tenant-{number:03}" for number in range(500)]


async def test_a_look_tells_that_a_job_expired(stores):
    await stores.insert(new_job(ttl=3600.0), new_job(delay=60.0, ttl=3600.0))
    assert not (await stores.upkeep.tick("w")).expired
    await stores.insert(new_job(ttl=0.0))
    assert (await stores.upkeep.tick("w")).expired


async def test_a_job_that_was_started_is_not_told_to_be_expired(stores):
    await stores.running(ttl=3600.0)
    await stores.execute("update quarterdeck.job set expires_at = now()")
    assert not (await stores.upkeep.tick("w")).expired
    await stores.attempts.release_worker("worker")
    assert not (await stores.upkeep.tick("w")).expired


async def test_a_look_tells_of_a_lease_that_is_over(stores):
    await stores.register()
    assert not (await stores.upkeep.tick("w")).lapsed
    await stores.register(lease=0.0)
    assert (await stores.upkeep.tick("w")).lapsed


async def test_a_look_tells_of_a_running_job_without_a_worker(stores):
    alive = await stores.register()
    await stores.running(alive)
    assert not (await stores.upkeep.tick("w")).lapsed
    await stores.running("nobody", queue="other")
    assert (await stores.upkeep.tick("w")).lapsed


async def test_a_look_tells_each_worker_its_own_jobs_to_stop(stores):
    mine, other = await stores.running("w", queue="a"), await stores.running("x", queue="b")
    await stores.running("w", queue="c")
    for job in (mine, other):
        await stores.jobs.cancel_job(job.id, "default")
    assert (await stores.upkeep.tick("w")).cancelling == [mine.id]
    assert (await stores.upkeep.tick("x")).cancelling == [other.id]
    assert (await stores.upkeep.tick("y")).cancelling == []


async def test_a_look_writes_nothing(stores):
    await stores.insert(new_job(), new_job(ttl=0.0), new_job(delay=60.0))
    async with stores.transaction() as readonly:
        await readonly.execute("set transaction read only")
        assert (await readonly.upkeep.tick("w")).expired
