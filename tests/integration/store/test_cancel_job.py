import asyncio

import pytest

from quarterdeck.domain.outcome import Transition
from quarterdeck.domain.state import State
from tests.support.factories import completed, ended, error_record, history, new_id, new_job, open_stores


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def cancel(stores, job_id, tenant="default"):
    return await stores.jobs.cancel_job(job_id, tenant)


@pytest.mark.parametrize("state", ["pending", "scheduled", "available", "retryable"])
async def test_a_waiting_job_ends_at_once(stores, state):
    job = new_job(args={"a": 1})
    await stores.insert(job)
    await stores.execute("update quarterdeck.job set state = $1", state)
    answer = await cancel(stores, job.id)
    row = await stores.row(job.id)
    assert (answer.id, answer.queue, answer.state, answer.seq, answer.worker) == (
        job.id,
        "default",
        "cancelled",
        2,
        None,
    )
    assert (row["state"], row["state_reason"], row["result"], row["args"]) == ("cancelled", None, None, {"a": 1})
    assert row["finalized_at"] is not None
    assert history(row) == ["submitted", "cancelled"]
    assert await stores.fetch("select from quarterdeck.job") == []


async def test_a_running_job_is_asked_to_end(stores):
    claimed = await stores.running("w")
    answer = await cancel(stores, claimed.id)
    row = await stores.row(claimed.id)
    assert (answer.state, answer.seq, answer.worker) == (State.RUNNING, 3, "w")
    assert (row["state"], row["state_reason"], row["fence"]) == ("running", "cancel_requested", claimed.fence)
    assert row["cancel_requested_at"] is not None
    assert history(row) == ["submitted", "started", "cancel_requested"]
    assert (await stores.upkeep.tick("w")).cancelling == [claimed.id]


async def test_a_second_cancel_changes_nothing(stores):
    waiting = new_job(queue="other")
    await stores.insert(waiting)
    running = await stores.running()
    for job_id in (waiting.id, running.id):
        assert await cancel(stores, job_id)
        before = await stores.row(job_id)
        assert await cancel(stores, job_id) is None
        assert await stores.row(job_id) == before


async def test_an_ended_job_stays_as_it_is(stores):
    claimed = await stores.running()
    await stores.finish(claimed)
    before = await stores.row(claimed.id)
    assert await cancel(stores, claimed.id) is None
    assert await stores.row(claimed.id) == before


async def test_a_job_of_another_tenant_is_not_there(stores):
    waiting = new_job(tenant="acme", queue="other")
    await stores.insert(waiting)
    running = await stores.running(tenant="acme")
    for job_id in (waiting.id, running.id, new_id()):
        assert await cancel(stores, job_id, "default") is None
    assert [(await stores.row(job_id))["state"] for job_id in (waiting.id, running.id)] == ["available", "running"]
    assert await cancel(stores, waiting.id, "acme")


async def test_a_cancel_keeps_the_errors_of_earlier_attempts(stores):
    claimed = await stores.running()
    await stores.attempts.reschedule_jobs([ended(claimed, Transition.retry(60.0, None, error_record()))])
    await cancel(stores, claimed.id)
    row = await stores.row(claimed.id)
    assert (row["state"], row["errors"], row["attempt"]) == ("cancelled", [error_record()], 1)


async def test_a_cancel_during_a_claim_finds_nothing_to_do_and_then_a_running_job(stores):
    job = new_job()
    await stores.insert(job)
    async with stores.transaction() as other:
        (claimed,) = await other.claim("w")
        first = asyncio.create_task(cancel(stores, job.id))
        await stores.until_somebody_waits()
    assert await first is None, "the caller looks again"
    assert (await cancel(stores, job.id)).state is State.RUNNING
    await stores.attempts.finish_jobs([ended(claimed, Transition.retry(0.0, None, error_record()))])
    assert history(await stores.row(job.id)) == ["submitted", "started", "cancel_requested", "cancelled"]


async def test_a_cancel_during_a_finish_comes_too_late(stores):
    claimed = await stores.running()
    async with stores.transaction() as other:
        await other.attempts.finish_jobs([completed(claimed)])
        late = asyncio.create_task(cancel(stores, claimed.id))
        await stores.until_somebody_waits()
    assert await late is None
    assert history(await stores.row(claimed.id)) == ["submitted", "started", "completed"]


async def test_a_cancel_while_a_job_is_put_back_finds_nothing_to_do_and_then_a_waiting_job(stores):
    claimed = await stores.running()
    async with stores.transaction() as other:
        await other.attempts.reschedule_jobs([ended(claimed, Transition.snooze(60.0))])
        first = asyncio.create_task(cancel(stores, claimed.id))
        await stores.until_somebody_waits()
    assert await first is None, "the caller looks again"
    assert (await cancel(stores, claimed.id)).state is State.CANCELLED


async def test_a_cancel_during_a_promotion_still_ends_the_job(stores):
    job = new_job(delay=3600.0)
    await stores.insert(job)
    await stores.execute("update quarterdeck.job set run_at = now()")
    async with stores.transaction() as other:
        await other.upkeep.promote_jobs(10)
        waiting = asyncio.create_task(cancel(stores, job.id))
        await stores.until_somebody_waits()
    answer = await waiting
    assert (answer.state, answer.seq) == (State.CANCELLED, 3)
    assert history(await stores.row(job.id)) == ["submitted", "available", "cancelled"]


async def test_two_cancels_at_the_same_time_are_one(stores):
    job = new_job()
    await stores.insert(job)
    answers = await asyncio.gather(*(cancel(stores, job.id) for _ in range(4)))
    assert sum(answer is not None for answer in answers) == 1
    assert history(await stores.row(job.id)) == ["submitted", "cancelled"]
