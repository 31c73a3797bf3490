import asyncio

import pytest

from quarterdeck.domain.state import State
from tests.support.factories import completed, history, new_job, open_stores


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def test_a_worker_is_told_what_it_runs_and_under_which_fence(stores):
    again = await stores.running("w", queue="a")
    await stores.attempts.release_worker("w")
    (again,) = await stores.claim("w", queue="a")
    once = await stores.running("w", queue="b")
    await stores.running("other", queue="c")
    await stores.insert(new_job())
    assert await stores.attempts.held_jobs("w") == {again.id: 2, once.id: 1}
    assert await stores.attempts.held_jobs("nobody") == {}


async def test_a_job_that_ended_is_held_no_more(stores):
    claimed = await stores.running("w")
    await stores.finish(claimed)
    assert await stores.attempts.held_jobs("w") == {}


async def test_a_worker_gives_back_all_it_holds_and_nothing_else(stores):
    await stores.insert(*[new_job() for _ in range(5)])
    mine, others = await stores.claim("w", 3), await stores.claim("other", 2)
    written = await stores.attempts.release_worker("w")
    assert {row.id for row in written} == {job.id for job in mine}
    assert {(row.state, row.seq, row.queue) for row in written} == {(State.AVAILABLE, 3, "default")}
    assert await stores.attempts.held_jobs("other") == {job.id: 1 for job in others}
    assert await stores.attempts.release_worker("w") == []


async def test_a_job_given_back_is_available_with_its_attempt_refunded(stores):
    claimed = await stores.running("w")
    await stores.attempts.release_worker("w")
    row = await stores.row(claimed.id)
    assert (row["state"], row["state_reason"], row["worker"]) == ("available", "interrupted", None)
    assert (row["attempt"], row["crashes"], row["fence"]) == (0, 0, 1)
    assert history(row) == ["submitted", "started", "interrupted"]


async def test_a_job_whose_cancel_was_asked_for_is_not_given_back(stores):
    claimed = await stores.running("w")
    await stores.jobs.cancel_job(claimed.id, "default")
    assert await stores.attempts.release_worker("w") == []
    (written,) = await stores.upkeep.rescue_jobs(10)
    assert (written.id, written.state) == (claimed.id, State.CANCELLED)


async def test_a_cancel_that_comes_between_is_not_lost(stores):
    claimed = await stores.running("w")
    async with stores.transaction() as other:
        await other.jobs.cancel_job(claimed.id, "default")
        back = asyncio.create_task(stores.attempts.release_worker("w"))
        await stores.until_somebody_waits()
    assert await back == []
    assert history(await stores.row(claimed.id)) == ["submitted", "started", "cancel_requested"]


async def test_an_end_that_comes_between_stands(stores):
    claimed = await stores.running("w")
    async with stores.transaction() as other:
        await other.attempts.finish_jobs([completed(claimed)])
        back = asyncio.create_task(stores.attempts.release_worker("w"))
        await stores.until_somebody_waits()
    assert await back == []
    assert (await stores.row(claimed.id))["state"] == "completed"


async def test_giving_back_and_ending_at_the_same_time_do_not_lock_each_other_out(stores):
    for _ in range(5):
        await stores.insert(*[new_job() for _ in range(100)])
        jobs = await stores.claim("w")
        ended, back = await asyncio.gather(
            stores.attempts.finish_jobs([completed(job) for job in jobs[::-1]]), stores.attempts.release_worker("w")
        )
        assert sorted(row.id for row in [*ended, *back]) == [job.id for job in jobs]
        await stores.finish(*await stores.claim("w"))
