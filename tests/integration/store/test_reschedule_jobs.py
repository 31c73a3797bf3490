import asyncio
import datetime as dt

import pytest

from quarterdeck.domain.outcome import Transition
from quarterdeck.domain.state import Reason, State
from tests.support.factories import ended, error_record, history, new_job, open_stores, timeline

RETRY = Transition.retry(30.0, Reason.TIMEOUT, error_record())
SNOOZE = Transition.snooze(60.0)
INTERRUPT = Transition.interrupt()


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


@pytest.mark.parametrize(
    ("transition", "attempt", "delay", "event"),
    [(RETRY, 1, 30, "retryable"), (SNOOZE, 0, 60, "snoozed"), (INTERRUPT, 0, None, "interrupted")],
    ids=["retry", "snooze", "interrupt"],
)
async def test_a_job_goes_back_to_wait(stores, transition, attempt, delay, event):
    claimed = await stores.running()
    before = await stores.row(claimed.id)
    (written,) = await stores.attempts.reschedule_jobs([ended(claimed, transition)])
    row = await stores.row(claimed.id)
    assert (row["state"], row["state_reason"], row["worker"]) == (transition.state, transition.reason, None)
    assert (row["attempt"], row["fence"]) == (attempt, claimed.fence)
    assert row["attempted_at"] == before["attempted_at"]
    assert (written.state, written.seq, written.run_at) == (transition.state, 3, row["run_at"])
    last = timeline(row)[-1]
    assert (last.event, last.fields) == (event, {"attempt": 1})
    if delay is None:
        assert row["run_at"] == before["run_at"], "a job given back keeps its place"
    else:
        at = dt.datetime.fromtimestamp(last.ms / 1000, dt.UTC)
        assert row["run_at"] - at == pytest.approx(dt.timedelta(seconds=delay), abs=dt.timedelta(milliseconds=1))


async def test_an_error_is_kept_with_the_job_whatever_it_contains(stores):
    record = error_record(message="a\0b\ud800é")
    claimed = await stores.running()
    await stores.attempts.reschedule_jobs([ended(claimed, Transition.retry(0.0, None, record))])
    assert (await stores.row(claimed.id))["errors"] == [record]


async def test_a_group_puts_each_job_back_in_its_own_way(stores):
    await stores.insert(*[new_job() for _ in range(6)])
    jobs = await stores.claim("w")
    group = [ended(job, each) for job, each in zip(jobs, [RETRY, SNOOZE, INTERRUPT] * 2, strict=True)]
    written = await stores.attempts.reschedule_jobs(group[::-1])
    assert {row.id: row.state for row in written} == {end.id: end.transition.state for end in group}
    for end in group:
        row = await stores.row(end.id)
        assert (row["attempt"], len(row["errors"])) == (int(end.transition is RETRY), int(end.transition is RETRY))


@pytest.mark.parametrize("fence", [0, 2])
@pytest.mark.parametrize("transition", [RETRY, SNOOZE, INTERRUPT], ids=["retry", "snooze", "interrupt"])
async def test_a_stale_fence_puts_nothing_back(stores, transition, fence):
    claimed = await stores.running()
    before = await stores.row(claimed.id)
    assert await stores.attempts.reschedule_jobs([ended(claimed, transition, fence=fence)]) == []
    assert await stores.row(claimed.id) == before


async def test_a_job_put_back_twice_is_refunded_once(stores):
    claimed = await stores.running()
    assert len(await stores.attempts.reschedule_jobs([ended(claimed, INTERRUPT)])) == 1
    assert await stores.attempts.reschedule_jobs([ended(claimed, INTERRUPT)]) == []
    assert (await stores.row(claimed.id))["attempt"] == 0


async def test_a_refund_gives_back_only_the_last_attempt(stores):
    claimed = await stores.running()
    await stores.attempts.reschedule_jobs([ended(claimed, Transition.retry(0.0, None, error_record()))])
    await stores.upkeep.promote_jobs(1)
    (claimed,) = await stores.claim("w")
    assert claimed.attempt == 2
    await stores.attempts.reschedule_jobs([ended(claimed, SNOOZE)])
    assert (await stores.row(claimed.id))["attempt"] == 1


async def test_a_job_whose_cancel_was_asked_for_is_left_to_end(stores):
    claimed = await stores.running()
    await stores.jobs.cancel_job(claimed.id, "default")
    before = await stores.row(claimed.id)
    assert await stores.attempts.reschedule_jobs([ended(claimed, RETRY)]) == []
    assert await stores.row(claimed.id) == before


async def test_a_cancel_that_comes_between_leaves_the_job_to_end(stores):
    claimed = await stores.running()
    async with stores.transaction() as other:
        await other.jobs.cancel_job(claimed.id, "default")
        back = asyncio.create_task(stores.attempts.reschedule_jobs([ended(claimed, INTERRUPT)]))
        await stores.until_somebody_waits()
    assert await back == []
    assert (await stores.row(claimed.id))["state"] == "running"


async def test_a_rescue_that_comes_between_leaves_nothing_to_put_back(stores):
    claimed = await stores.running()
    async with stores.transaction() as other:
        await other.upkeep.rescue_jobs(10)
        back = asyncio.create_task(stores.attempts.reschedule_jobs([ended(claimed, INTERRUPT)]))
        await stores.until_somebody_waits()
    assert await back == []
    row = await stores.row(claimed.id)
    assert (row["attempt"], row["crashes"], history(row)) == (0, 1, ["submitted", "started", "rescued"])


async def test_a_job_given_back_unstarted_was_never_started(stores):
    claimed = await stores.running(ttl=60.0)
    await stores.attempts.reschedule_jobs([ended(claimed, INTERRUPT, unstarted=True)])
    row = await stores.row(claimed.id)
    assert (row["attempted_at"], row["attempt"]) == (None, 0)
    await stores.execute("update quarterdeck.job set expires_at = now()")
    assert [written.state for written in await stores.upkeep.expire_jobs(10)] == [State.DISCARDED]


async def test_a_job_given_back_unstarted_in_a_later_attempt_was_started_before(stores):
    claimed = await stores.running(ttl=60.0)
    await stores.attempts.reschedule_jobs([ended(claimed, Transition.retry(0.0, None, error_record()))])
    await stores.upkeep.promote_jobs(1)
    (claimed,) = await stores.claim("w")
    await stores.attempts.reschedule_jobs([ended(claimed, INTERRUPT, unstarted=True)])
    assert (await stores.row(claimed.id))["attempted_at"] is not None


async def test_a_job_that_snoozed_and_is_given_back_unstarted_was_started_before(stores):
    # A snooze refunds its attempt, so that the next one is number 1 again.
    claimed = await stores.running(ttl=60.0)
    await stores.attempts.reschedule_jobs([ended(claimed, Transition.snooze(0.0))])
    await stores.upkeep.promote_jobs(1)
    (claimed,) = await stores.claim("w")
    await stores.attempts.reschedule_jobs([ended(claimed, INTERRUPT, unstarted=True)])
    assert (await stores.row(claimed.id))["attempted_at"] is not None


async def test_two_groups_of_the_same_jobs_in_opposite_order_do_not_lock_each_other_out(stores):
    await stores.insert(*[new_job() for _ in range(100)])
    jobs = await stores.claim("w")
    group = [ended(job, INTERRUPT) for job in jobs]
    written = await asyncio.gather(*(stores.attempts.reschedule_jobs(each) for each in (group, group[::-1], group)))
    assert sorted(row.id for each in written for row in each) == [job.id for job in jobs]
