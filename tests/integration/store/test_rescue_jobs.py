import asyncio

import pytest

from quarterdeck.domain.state import State
from tests.support.factories import completed, history, new_job, open_stores, timeline


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def lose(stores, times, **options):
    """Claim a job by workers that vanish, `times` times over; return the last claim."""
    claimed = await stores.running("lost-1", **options)
    for number in range(2, times + 1):
        (freed,) = await stores.upkeep.rescue_jobs(10)
        assert freed.state is State.AVAILABLE
        if number > 2:
            claimed = await stores.attempts.claim_suspect(freed.id, f"lost-{number}")
        else:
            (claimed,) = await stores.claim(f"lost-{number}")
    return claimed


async def test_workers_whose_lease_is_over_are_removed_and_no_others(stores):
    alive = await stores.register()
    dead = await stores.register(lease=0.0, host="h", pid=7)
    (lost,) = await stores.upkeep.bury_workers()
    assert (lost.id, lost.host, lost.pid) == (dead, "h", 7)
    assert [row["id"] for row in await stores.fetch("select id from quarterdeck.worker")] == [alive]
    assert await stores.upkeep.bury_workers() == []


async def test_a_worker_whose_beat_is_being_written_is_not_removed(stores):
    worker = await stores.register(lease=0.0)
    async with stores.transaction() as other:
        await other.execute("update quarterdeck.worker set lease_until = now() + interval '1 minute'")
        assert await asyncio.wait_for(stores.upkeep.bury_workers(), 15) == []
    assert await stores.upkeep.bury_workers() == []
    assert [row["id"] for row in await stores.fetch("select id from quarterdeck.worker")] == [worker]


async def test_jobs_of_a_live_worker_are_not_taken_whatever_else_is_lost(stores):
    alive = await stores.register()
    kept = await stores.running(alive, queue="a")
    lost = await stores.running("nobody", queue="b")
    assert [row.id for row in await stores.upkeep.rescue_jobs(10)] == [lost.id]
    assert await stores.attempts.held_jobs(alive) == {kept.id: kept.fence}


async def test_jobs_of_a_worker_that_is_not_buried_yet_are_not_taken(stores):
    worker = await stores.register(lease=0.0)
    await stores.running(worker)
    assert await stores.upkeep.rescue_jobs(10) == []
    await stores.upkeep.bury_workers()
    assert len(await stores.upkeep.rescue_jobs(10)) == 1


async def test_an_orphan_is_available_again_with_its_attempt_refunded_and_its_crash_counted(stores):
    claimed = await stores.running("lost")
    (written,) = await stores.upkeep.rescue_jobs(10)
    row = await stores.row(claimed.id)
    assert (written.id, written.queue, written.state, written.seq) == (claimed.id, "default", State.AVAILABLE, 3)
    assert (row["state"], row["state_reason"], row["worker"]) == ("available", "crashed", None)
    assert (row["attempt"], row["crashes"], row["fence"]) == (0, 1, claimed.fence)
    assert (timeline(row)[-1].event, timeline(row)[-1].fields) == ("rescued", {"attempt": 1})


async def test_the_third_crash_is_the_last(stores):
    claimed = await lose(stores, 3, args={"a": 1})
    (written,) = await stores.upkeep.rescue_jobs(10)
    row = await stores.row(claimed.id)
    assert written.state is State.DISCARDED
    assert (row["state"], row["state_reason"], row["attempt"], row["crashes"]) == ("discarded", "crashed", 0, 3)
    assert row["state_detail"] == "its worker was lost for the third time"
    assert row["args"] == {"a": 1}
    assert history(row) == ["submitted", *["started", "rescued"] * 2, "started", "discarded"]
    assert await stores.fetch("select from quarterdeck.job") == []


async def test_a_job_that_lost_two_workers_can_still_be_finished(stores):
    claimed = await lose(stores, 3)
    await stores.finish(claimed)
    row = await stores.row(claimed.id)
    assert (row["state"], row["attempt"], row["crashes"]) == ("completed", 1, 2)


@pytest.mark.parametrize("crashes", [1, 2, 3])
async def test_an_orphan_whose_cancel_was_asked_for_ends_cancelled(stores, crashes):
    claimed = await lose(stores, crashes)
    await stores.jobs.cancel_job(claimed.id, "default")
    (written,) = await stores.upkeep.rescue_jobs(10)
    row = await stores.row(claimed.id)
    assert written.state is State.CANCELLED
    assert (row["state"], row["state_reason"], row["state_detail"]) == ("cancelled", "cancel_requested", None)
    assert history(row)[-2:] == ["cancel_requested", "cancelled"]


async def test_the_worker_that_was_thought_lost_can_write_nothing_afterwards(stores):
    claimed = await stores.running("lost")
    await stores.upkeep.rescue_jobs(10)
    before = await stores.row(claimed.id)
    assert await stores.attempts.finish_jobs([completed(claimed)]) == []
    assert await stores.row(claimed.id) == before


async def test_an_end_that_is_being_written_is_passed_over(stores):
    claimed = await stores.running("lost")
    async with stores.transaction() as other:
        await other.attempts.finish_jobs([completed(claimed)])
        assert await asyncio.wait_for(stores.upkeep.rescue_jobs(10), 15) == []
    assert (await stores.row(claimed.id))["state"] == "completed"


async def test_rescuers_at_the_same_time_take_each_orphan_once(stores):
    await stores.insert(*[new_job() for _ in range(100)])
    jobs = await stores.claim("lost-1", 50) + await stores.claim("lost-2", 50)
    written = await asyncio.gather(*(stores.upkeep.rescue_jobs(60) for _ in range(4)))
    ids = [row.id for each in written for row in [*each]] + [row.id for row in await stores.upkeep.rescue_jobs(100)]
    assert sorted(ids) == sorted(job.id for job in jobs)
    assert {(await stores.row(job.id))["crashes"] for job in jobs} == {1}


async def test_no_more_than_the_limit_are_taken_back_at_once_and_in_the_end_all(stores):
    await stores.insert(*[new_job() for _ in range(5)])
    await stores.claim("lost-1", 3)
    await stores.claim("lost-2", 2)
    assert [len(await stores.upkeep.rescue_jobs(2)) for _ in range(4)] == [2, 2, 1, 0]


async def test_orphans_of_many_workers_are_found_among_live_ones(stores):
    alive = [await stores.register(id=name) for name in ("b", "d", "f")]
    for worker in ("a", "b", "c", "d", "e", "f", "g"):
        await stores.running(worker)
    rescued = await stores.upkeep.rescue_jobs(10)
    assert len(rescued) == 4
    for worker in alive:
        assert len(await stores.attempts.held_jobs(worker)) == 1
