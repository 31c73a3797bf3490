"""queue_depths.sql: how many unfinished jobs each queue holds, and for how long the first one has been due."""

import pytest

from quarterdeck.store.depths import COUNTED, DepthStore
from tests.support.factories import new_job, open_stores


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


@pytest.fixture
async def depths(stores):
    async def read():
        return {each.queue: each for each in await DepthStore(stores.source).queue_depths()}

    return read


async def test_an_empty_database_has_no_queues(depths):
    assert await depths() == {}


async def test_jobs_are_counted_by_queue_and_state(stores, depths):
    for queue, count in [("a", 5), ("b", 1)]:
        await stores.insert(*(new_job(queue=queue) for _ in range(count)))
    await stores.insert(new_job(queue="a", delay=60.0))
    await stores.execute("update quarterdeck.job set state = 'retryable' where queue = 'b'")
    await stores.running(queue="c")
    found = await depths()
    none = dict.fromkeys(COUNTED, 0)
    assert {queue: each.jobs for queue, each in found.items()} == {
        "a": {**none, "available": 5, "scheduled": 1},
        "b": {**none, "retryable": 1},
        "c": {**none, "running": 1},
    }
    await stores.execute("update quarterdeck.job set state = 'pending' where state = 'retryable'")
    await stores.execute("update quarterdeck.job set concurrency_key = 'k' where queue = 'a' and state = 'available'")
    found = await depths()
    assert found["b"].jobs == {**none, "pending": 1}
    assert found["a"].jobs["available"] == 5


async def test_the_oldest_available_job_tells_how_long_it_has_been_due(stores, depths):
    await stores.insert(new_job(queue="late"), new_job(queue="late"), new_job(queue="late"))
    await stores.execute(
        """update quarterdeck.job set run_at = now() - interval '1 hour' * (1 + (select count(*) from quarterdeck.job o
          where o.id < job.id)) where queue = 'late'"""
    )
    await stores.insert(new_job(queue="coming", delay=60.0))
    await stores.insert(new_job(queue="early"))
    await stores.execute("update quarterdeck.job set run_at = now() + interval '1 minute' where queue = 'early'")
    found = await depths()
    assert found["late"].oldest_available == pytest.approx(3 * 3600, abs=60)
    assert found["coming"].oldest_available is None
    assert found["early"].oldest_available == 0


async def test_counting_waits_for_no_lock_of_a_writer(stores, depths):
    await stores.insert(new_job(queue="a"))
    async with stores.connection() as other, other.transaction():
        await other.execute("select from quarterdeck.job for update")
        assert (await depths())["a"].jobs["available"] == 1
