import asyncio
import datetime as dt

import pytest

from quarterdeck.domain.outcome import Transition
from quarterdeck.domain.state import State
from quarterdeck.store.job_edits import JobEditStore
from tests.support.factories import ended, error_record, history, new_id, new_job, open_stores, timeline

HOUR = dt.timedelta(hours=1)


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def retry(stores, job_id, tenant="default"):
    return await JobEditStore(stores.source).retry_job(job_id, tenant)


async def delete(stores, job_id, tenant="default"):
    return await JobEditStore(stores.source).delete_job(job_id, tenant)


async def discarded(stores, **options):
    claimed = await stores.running(**options)
    await stores.attempts.finish_jobs(
        [ended(claimed, Transition(State.DISCARDED, "discarded", "attempts_exhausted", "no", error=error_record()))]
    )
    return claimed


async def ended_job(stores, state="completed", **options):
    """A job that has ended, in whichever way."""
    if state == "discarded":
        return (await discarded(stores, **options)).id
    job = new_job(**options)
    await stores.insert(job)
    if state == "cancelled":
        assert await stores.jobs.cancel_job(job.id, job.tenant)
    else:
        await stores.finish(*await stores.claim("w", queue=job.queue))
    return job.id


@pytest.mark.parametrize("state", ["completed", "cancelled", "discarded"])
async def test_an_ended_job_becomes_a_new_generation_of_itself(stores, state):
    job_id = await ended_job(stores, state, args={"a": 1}, tags=["t"], metadata={"m": 1}, timeout=7.0, max_attempts=3)
    before = dict(await stores.row(job_id))
    retried = await retry(stores, job_id)
    after = dict(await stores.row(job_id))
    assert await stores.fetch("select from quarterdeck.job_history") == []
    assert {job_id: retried.job} == await stores.jobs.get_jobs([job_id])
    assert after["run_at"] > before["finalized_at"]
    assert after == {
        **{name: value for name, value in before.items() if name in after},
        "state": "available",
        "state_reason": None,
        "state_detail": None,
        "attempt": 0,
        "generation": 2,
        "seq": before["seq"] + 1,
        "run_at": after["run_at"],
        "attempted_at": None,
        "worker": None,
        "progress": None,
        "timeline": after["timeline"],
    }
    assert history(after) == [*history(before), "retried"]
    assert timeline(after)[-1].fields == {"generation": 2}


async def test_what_an_earlier_generation_left_does_not_count_any_more_and_its_errors_stay(stores):
    claimed = await discarded(stores)
    await stores.execute("alter table quarterdeck.job_history disable trigger job_history_is_final")
    await stores.execute("update quarterdeck.job_history set crashes = 3, cancel_requested_at = now(), progress = '{}'")
    await retry(stores, claimed.id)
    row = await stores.row(claimed.id)
    assert (row["crashes"], row["cancel_requested_at"], row["progress"]) == (0, None, None)
    assert row["errors"] == [error_record()]


async def test_the_fence_goes_on_so_that_an_old_attempt_can_write_nothing(stores):
    old = await stores.running()
    await stores.finish(old)
    await retry(stores, old.id)
    (new,) = await stores.claim("w2")
    assert (new.fence, new.attempt) == (old.fence + 1, 1)
    assert await stores.attempts.finish_jobs([ended(old, Transition.complete("1"))]) == []
    await stores.finish(new)
    row = await stores.row(old.id)
    assert (row["generation"], row["state"]) == (2, "completed")
    assert history(row) == ["submitted", "started", "completed", "retried", "started", "completed"]
    assert (await retry(stores, old.id)).job.generation == 3


async def test_a_time_to_live_counts_anew_and_a_moment_that_has_passed_is_dropped(stores):
    now = dt.datetime.now(dt.UTC)
    with_ttl = await ended_job(stores, "cancelled", ttl=60.0)
    passed = await ended_job(stores, "cancelled", expires_at=now - HOUR)
    to_come = await ended_job(stores, "cancelled", expires_at=now + HOUR)
    job = (await retry(stores, with_ttl)).job
    assert job.expires_at == job.run_at + dt.timedelta(seconds=60)
    assert (await retry(stores, passed)).job.expires_at is None
    assert (await retry(stores, to_come)).job.expires_at == now + HOUR


@pytest.mark.parametrize("state", ["scheduled", "retryable"])
async def test_a_job_that_waits_for_its_time_runs_now(stores, state):
    job = new_job(delay=3600.0, ttl=60.0)
    await stores.insert(job)
    await stores.execute(
        "update quarterdeck.job set state = $1, state_reason = 'timeout', attempt = 1, errors = array['1'::json]", state
    )
    retried = (await retry(stores, job.id)).job
    row = await stores.row(job.id)
    assert (row["state"], row["state_reason"], row["generation"], row["attempt"]) == ("available", None, 1, 1)
    assert row["errors"] == ["1"]
    assert retried.run_at < dt.datetime.now(dt.UTC) + HOUR / 2
    assert retried.expires_at == retried.run_at + dt.timedelta(seconds=60)
    assert history(row) == ["submitted", "available"]
    assert [claimed.id for claimed in await stores.claim("w")] == [job.id]


@pytest.mark.parametrize("state", ["pending", "available", "running"])
async def test_a_job_in_any_other_state_is_left_alone(stores, state):
    job = new_job()
    await stores.insert(job)
    await stores.execute(
        "update quarterdeck.job set state = $1, worker = $2", state, "w" if state == "running" else None
    )
    before = await stores.row(job.id)
    assert await retry(stores, job.id) is None
    assert await stores.row(job.id) == before


async def test_a_job_of_another_tenant_is_not_there(stores):
    job_id = await ended_job(stores, "cancelled", tenant="acme")
    waiting = new_job(tenant="acme", delay=60.0)
    await stores.insert(waiting)
    for unknown in (job_id, waiting.id, new_id()):
        assert await retry(stores, unknown) is None
        assert not await delete(stores, unknown)
    assert (await retry(stores, job_id, "acme")).job
    assert (await retry(stores, waiting.id, "acme")).job


# Unique keys


async def holder(stores):
    rows = await stores.fetch("select job_id, held_until, ended from quarterdeck.unique_key where key = 'k'")
    return [(row["job_id"], row["held_until"], row["ended"]) for row in rows]


async def test_a_unique_key_that_is_free_is_taken_again(stores):
    job_id = await ended_job(stores, "cancelled", unique_key="k")
    assert await holder(stores) == []
    assert (await retry(stores, job_id)).job.unique_key == "k"
    assert await holder(stores) == [(job_id, None, False)]


async def test_a_key_that_the_job_itself_holds_for_a_time_stays_its_own(stores):
    job_id = await ended_job(stores, "cancelled", unique_key="k", unique_period=3600.0)
    ((_, until, ended_now),) = await holder(stores)
    assert ended_now
    assert (await retry(stores, job_id)).job
    assert await holder(stores) == [(job_id, until, False)]


async def test_a_key_that_another_job_has_keeps_the_job_where_it_is(stores):
    job_id = await ended_job(stores, "cancelled", unique_key="k")
    other = new_job(unique_key="k")
    await stores.insert(other)
    before = await stores.row(job_id)
    assert (await retry(stores, job_id)).job is None
    assert await stores.row(job_id) == before
    # Ended, but held for a time: the same; when that is over, the key is free.
    await stores.execute("update quarterdeck.unique_key set ended = true, held_until = now() + interval '1 hour'")
    assert (await retry(stores, job_id)).job is None
    await stores.execute("update quarterdeck.unique_key set held_until = now()")
    assert (await retry(stores, job_id)).job
    assert await holder(stores) == [(job_id, None, False)]


async def test_a_retry_waits_for_a_submit_with_the_same_key_and_gives_way(stores):
    job_id = await ended_job(stores, "cancelled", unique_key="k")
    async with stores.transaction() as other:
        new = new_job(unique_key="k")
        await other.insert(new)
        late = asyncio.create_task(retry(stores, job_id))
        await stores.until_somebody_waits()
    assert (await late).job is None
    assert [found[0] for found in await holder(stores)] == [new.id]


# Delete


async def test_a_deleted_job_is_gone_with_its_events_and_its_key(stores):
    job_id = await ended_job(stores, "cancelled", unique_key="k", unique_period=3600.0)
    kept = await ended_job(stores, "cancelled")
    for each in (job_id, kept):
        await stores.execute(
            "insert into quarterdeck.job_event (job_id, queue, seq, generation, attempt, event, data) "
            "select $1, 'default', n, 1, 1, 'log', '{}' from generate_series(2, 4) n",
            each,
        )
    assert await delete(stores, job_id)
    assert await stores.jobs.get_jobs([job_id, kept]) == await stores.jobs.get_jobs([kept])
    assert {row["job_id"] for row in await stores.fetch("select job_id from quarterdeck.job_event")} == {kept}
    assert await holder(stores) == []
    assert not await delete(stores, job_id)


async def test_a_job_that_has_not_ended_is_not_deleted(stores):
    running = await stores.running()
    waiting = new_job()
    await stores.insert(waiting)
    await stores.execute(
        "insert into quarterdeck.job_event (job_id, queue, seq, generation, attempt, event, data) "
        "values ($1, 'default', 3, 1, 1, 'log', '{}')",
        running.id,
    )
    for job_id in (running.id, waiting.id):
        assert not await delete(stores, job_id)
    assert len(await stores.jobs.get_jobs([running.id, waiting.id])) == 2
    assert len(await stores.fetch("select from quarterdeck.job_event")) == 1


# Races


async def test_two_retries_at_the_same_time_are_one(stores):
    job_id = await ended_job(stores, unique_key="k")
    async with stores.transaction() as other:
        assert (await retry(other, job_id)).job
        late = asyncio.create_task(retry(stores, job_id))
        await stores.until_somebody_waits()
    assert await late is None
    row = await stores.row(job_id)
    assert (row["generation"], history(row)) == (2, ["submitted", "started", "completed", "retried"])


async def test_two_retries_of_a_scheduled_job_are_one(stores):
    job = new_job(delay=60.0)
    await stores.insert(job)
    async with stores.transaction() as other:
        assert (await retry(other, job.id)).job
        late = asyncio.create_task(retry(stores, job.id))
        await stores.until_somebody_waits()
    assert await late is None
    assert history(await stores.row(job.id)) == ["submitted", "available"]


async def test_a_retry_during_a_delete_finds_nothing(stores):
    job_id = await ended_job(stores, unique_key="k")
    async with stores.transaction() as other:
        assert await delete(other, job_id)
        late = asyncio.create_task(retry(stores, job_id))
        await stores.until_somebody_waits()
    assert await late is None
    assert await stores.jobs.get_jobs([job_id]) == {}
    assert await holder(stores) == []


async def test_a_delete_during_a_retry_finds_nothing(stores):
    job_id = await ended_job(stores)
    async with stores.transaction() as other:
        assert (await retry(other, job_id)).job
        late = asyncio.create_task(delete(stores, job_id))
        await stores.until_somebody_waits()
    assert not await late
    assert (await stores.row(job_id))["state"] == "available"


async def test_a_retry_during_a_promotion_finds_an_available_job(stores):
    job = new_job(delay=3600.0)
    await stores.insert(job)
    await stores.execute("update quarterdeck.job set run_at = now()")
    async with stores.transaction() as other:
        await other.upkeep.promote_jobs(10)
        late = asyncio.create_task(retry(stores, job.id))
        await stores.until_somebody_waits()
    assert await late is None
    assert history(await stores.row(job.id)) == ["submitted", "available"]


async def test_many_retries_and_deletes_of_one_job_leave_it_whole_or_gone(stores):
    for _ in range(10):
        job_id = await ended_job(stores)
        answers = await asyncio.gather(
            retry(stores, job_id), delete(stores, job_id), retry(stores, job_id), delete(stores, job_id)
        )
        found = await stores.jobs.get_jobs([job_id])
        if found:
            assert found[job_id].generation == 2
            assert sum(bool(answer) for answer in answers) == 1
            await stores.finish(*await stores.claim("w"))
        else:
            assert sum(answer is True for answer in answers) == 1
