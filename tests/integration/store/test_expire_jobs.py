import asyncio

import pytest

from quarterdeck.domain.outcome import Transition
from quarterdeck.domain.state import State
from tests.support.factories import ended, error_record, history, new_job, open_stores


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def make_late(stores):
    await stores.execute("update quarterdeck.job set expires_at = now()")


@pytest.mark.parametrize("options", [{}, {"delay": 3600.0}], ids=["available", "scheduled"])
async def test_a_job_that_was_not_started_in_time_is_discarded(stores, options):
    job = new_job(args={"a": 1}, ttl=60.0, **options)
    await stores.insert(job)
    assert await stores.upkeep.expire_jobs(10) == []
    await make_late(stores)
    (written,) = await stores.upkeep.expire_jobs(10)
    row = await stores.row(job.id)
    assert (written.id, written.queue, written.state, written.seq) == (job.id, "default", State.DISCARDED, 2)
    assert (row["state"], row["state_reason"], row["attempt"], row["args"]) == ("discarded", "expired", 0, {"a": 1})
    assert row["finalized_at"] is not None
    assert history(row) == ["submitted", "discarded"]
    assert await stores.fetch("select from quarterdeck.job") == []


async def test_running_and_pending_jobs_do_not_expire(stores):
    await stores.running(ttl=60.0)
    pending = new_job(ttl=60.0)
    await stores.insert(pending)
    await stores.execute("update quarterdeck.job set state = 'pending' where id = $1", pending.id)
    await make_late(stores)
    assert await stores.upkeep.expire_jobs(10) == []


@pytest.mark.parametrize(
    "transition",
    [Transition.retry(60.0, None, error_record()), Transition.snooze(60.0), Transition.interrupt()],
    ids=["retryable", "snoozed", "interrupted"],
)
async def test_a_job_that_was_started_once_does_not_expire(stores, transition):
    claimed = await stores.running(ttl=60.0)
    await stores.attempts.reschedule_jobs([ended(claimed, transition)])
    await make_late(stores)
    assert await stores.upkeep.expire_jobs(10) == []


async def test_no_more_than_the_limit_expire_at_once(stores):
    facts = await stores.insert(*[new_job(ttl=60.0 - number) for number in range(5)])
    await stores.execute("update quarterdeck.job set expires_at = expires_at - interval '1 hour'")
    first, second = await stores.upkeep.expire_jobs(3), await stores.upkeep.expire_jobs(3)
    assert {written.id for written in first} == {fact.id for fact in facts[2:]}
    assert {written.id for written in second} == {fact.id for fact in facts[:2]}


async def test_what_another_one_holds_is_passed_over_and_expires_once(stores):
    job = new_job(ttl=0.0)
    await stores.insert(job)
    async with stores.transaction() as other:
        assert len(await other.upkeep.expire_jobs(10)) == 1
        assert await asyncio.wait_for(stores.upkeep.expire_jobs(10), 15) == []
    assert await stores.upkeep.expire_jobs(10) == []
    assert history(await stores.row(job.id)) == ["submitted", "discarded"]


async def test_a_job_that_is_claimed_just_in_time_does_not_expire(stores):
    job = new_job(ttl=60.0)
    await stores.insert(job)
    async with stores.transaction() as other:
        (claimed,) = await other.claim("w")
        await other.execute("update quarterdeck.job set expires_at = now()")
        assert await asyncio.wait_for(stores.upkeep.expire_jobs(10), 15) == []
    await stores.finish(claimed)
    assert history(await stores.row(job.id)) == ["submitted", "started", "completed"]
