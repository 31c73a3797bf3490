import asyncio

import pytest

from quarterdeck.domain.outcome import Transition
from quarterdeck.domain.state import State
from tests.support.factories import ended, error_record, history, new_job, open_stores, timeline


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def make_due(stores):
    await stores.execute("update quarterdeck.job set run_at = now() where state in ('scheduled', 'retryable')")


async def test_a_scheduled_job_that_is_due_becomes_available(stores):
    job = new_job(delay=3600.0)
    await stores.insert(job)
    await make_due(stores)
    (written,) = await stores.upkeep.promote_jobs(10)
    row = await stores.row(job.id)
    assert (written.id, written.queue, written.state, written.seq) == (job.id, "default", State.AVAILABLE, 2)
    assert (row["state"], row["state_reason"], row["attempt"]) == ("available", None, 0)
    assert (timeline(row)[-1].event, timeline(row)[-1].fields) == ("available", {})


async def test_a_job_that_waits_for_its_next_attempt_becomes_available_when_it_is_due(stores):
    claimed = await stores.running()
    await stores.attempts.reschedule_jobs([ended(claimed, Transition.retry(0.0, None, error_record()))])
    await stores.upkeep.promote_jobs(10)
    row = await stores.row(claimed.id)
    assert (row["state"], row["attempt"], row["errors"]) == ("available", 1, [error_record()])
    assert history(row) == ["submitted", "started", "retryable", "available"]


async def test_a_reason_ends_with_the_state_it_was_for(stores):
    claimed = await stores.running()
    await stores.attempts.reschedule_jobs([ended(claimed, Transition.snooze(0.0))])
    assert (await stores.row(claimed.id))["state_reason"] == "snoozed"
    await stores.upkeep.promote_jobs(10)
    assert (await stores.row(claimed.id))["state_reason"] is None


async def test_what_is_not_due_or_waits_for_something_else_is_left_alone(stores):
    await stores.insert(new_job(delay=3600.0), new_job())
    await stores.running(queue="other")
    pending = new_job()
    await stores.insert(pending)
    await stores.execute("update quarterdeck.job set state = 'pending' where id = $1", pending.id)
    assert await stores.upkeep.promote_jobs(10) == []


async def test_the_longest_due_come_first_and_no_more_than_the_limit(stores):
    facts = await stores.insert(*[new_job(delay=100.0 - number) for number in range(5)])
    await stores.execute("update quarterdeck.job set run_at = run_at - interval '1 hour'")
    first, second = await stores.upkeep.promote_jobs(3), await stores.upkeep.promote_jobs(3)
    assert {written.id for written in first} == {fact.id for fact in facts[2:]}
    assert {written.id for written in second} == {fact.id for fact in facts[:2]}


async def test_a_promotion_passes_over_what_another_one_has_taken(stores):
    facts = await stores.insert(*[new_job(delay=100.0 + number) for number in range(4)])
    await stores.execute("update quarterdeck.job set run_at = run_at - interval '1 hour'")
    async with stores.transaction() as other:
        await other.upkeep.promote_jobs(2)
        rest = await asyncio.wait_for(stores.upkeep.promote_jobs(4), 15)
    assert {written.id for written in rest} == {fact.id for fact in facts[2:]}
    assert [len((await stores.row(fact.id))["timeline"].splitlines()) for fact in facts] == [2] * 4


async def test_promoters_at_the_same_time_promote_each_job_once(stores):
    facts = await stores.insert(*[new_job(delay=100.0) for _ in range(200)])
    await make_due(stores)
    written = await asyncio.gather(*(stores.upkeep.promote_jobs(120) for _ in range(4)))
    ids = [row.id for each in written for row in each]
    ids += [row.id for row in await stores.upkeep.promote_jobs(200)]
    assert sorted(ids) == sorted(fact.id for fact in facts)


async def test_a_job_that_is_cancelled_just_now_is_not_promoted(stores):
    job = new_job(delay=3600.0)
    await stores.insert(job)
    await make_due(stores)
    async with stores.transaction() as other:
        await other.jobs.cancel_job(job.id, "default")
        assert await asyncio.wait_for(stores.upkeep.promote_jobs(10), 15) == []
    assert history(await stores.row(job.id)) == ["submitted", "cancelled"]
