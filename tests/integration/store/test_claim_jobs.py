import asyncio
import datetime as dt

import pytest

from quarterdeck.domain.state import State
from tests.support.factories import QUEUE, completed, history, new_job, open_stores, timeline

PAST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def test_a_claim_is_the_start_of_an_attempt(stores):
    job = new_job(args={"a": 1}, retry={"backoff": "fixed"}, tenant="acme", timeout=None, max_attempts=3)
    await stores.insert(job)
    (claimed,) = await stores.claim("w1")
    row = await stores.row(job.id)
    assert (row["state"], row["worker"], row["attempt"], row["fence"], row["seq"]) == ("running", "w1", 1, 1, 2)
    assert row["attempted_at"] is not None
    assert (claimed.id, claimed.fence, claimed.attempt, claimed.max_attempts) == (job.id, 1, 1, 3)
    assert (claimed.kind, claimed.queue, claimed.args, claimed.tenant) == (job.kind, QUEUE, {"a": 1}, "acme")
    assert (claimed.timeout, claimed.retry) == (None, {"backoff": "fixed"})
    assert (timeline(row)[1].event, timeline(row)[1].fields) == ("started", {"attempt": 1})


async def test_a_claimed_job_can_be_seen_whole(stores):
    claimed = await stores.running(tags=["a"], metadata={"m": 1})
    seen = claimed.job()
    assert seen == (await stores.jobs.get_jobs([claimed.id]))[claimed.id]
    assert (seen.state, seen.worker, seen.tags, seen.metadata) == (State.RUNNING, "worker", ["a"], {"m": 1})


async def test_jobs_come_by_priority_then_by_due_time_then_by_age(stores):
    earlier, later = PAST, PAST + dt.timedelta(seconds=1)
    jobs = [
        new_job(priority=priority, run_at=moment)
        for moment in (later, earlier)
        for priority in (9, 0, 5)
        for _ in range(2)
    ]
    await stores.insert(*jobs)
    expected = sorted(jobs, key=lambda job: (job.priority, job.run_at, job.id))
    claimed = await stores.claim("w", 5) + await stores.claim("w", 5) + await stores.claim("w", 5)
    assert [job.id for job in claimed] == [job.id for job in expected]


async def test_no_more_than_the_limit_are_claimed(stores):
    await stores.insert(*[new_job() for _ in range(10)])
    assert [len(await stores.claim("w", limit)) for limit in (3, 0, 6, 6)] == [3, 0, 6, 1]


async def test_only_due_keyless_jobs_of_the_queue_and_of_known_kinds_are_claimed(stores):
    wanted = new_job()
    keyed = new_job()
    await stores.insert(wanted, keyed, new_job(queue="other"), new_job(delay=3600.0), new_job(kind="unknown"))
    await stores.execute("update quarterdeck.job set concurrency_key = 'k' where id = $1", keyed.id)
    pending = new_job()
    await stores.insert(pending)
    await stores.execute("update quarterdeck.job set state = 'pending' where id = $1", pending.id)
    assert [job.id for job in await stores.claim("w")] == [wanted.id]
    assert await stores.claim("w", kinds=[]) == []


async def test_an_available_job_is_not_claimed_before_it_is_due(stores):
    job = new_job()
    await stores.insert(job)
    await stores.execute("update quarterdeck.job set run_at = now() + interval '1 hour'")
    assert await stores.claim("w") == []


async def test_jobs_of_kinds_that_nobody_here_has_stand_in_nobodys_way(stores):
    await stores.insert(*[new_job(kind="unknown", priority=0) for _ in range(50)])
    wanted = new_job(priority=9)
    await stores.insert(wanted)
    assert [job.id for job in await stores.claim("w", 1)] == [wanted.id]


async def test_an_expired_job_is_never_claimed(stores):
    await stores.insert(new_job(ttl=0.0), new_job(expires_at=PAST))
    assert await stores.claim("w") == []


async def test_a_job_that_was_started_in_time_does_not_expire_any_more(stores):
    claimed = await stores.running(ttl=3600.0)
    await stores.attempts.release_worker("worker")
    await stores.execute("update quarterdeck.job set expires_at = $1", PAST)
    assert [job.id for job in await stores.claim("w")] == [claimed.id]


@pytest.mark.parametrize(
    "setting",
    ["paused = true", "concurrency = 5", "rate = '100/1m', rate_every = '600 ms', rate_burst = 100"],
    ids=["paused", "concurrency", "rate"],
)
async def test_nothing_is_claimed_plainly_from_a_queue_that_is_paused_or_limited(stores, setting):
    await stores.execute("insert into quarterdeck.queue (name) values ($1), ('other')", QUEUE)
    await stores.insert(new_job(), new_job())
    assert len(await stores.claim("w", 1)) == 1, "a row of settings alone is no limit"
    await stores.execute(f"update quarterdeck.queue set {setting} where name = $1", QUEUE)
    assert await stores.claim("w", 1) == []


async def test_a_queue_that_goes_on_is_claimed_again(stores):
    await stores.execute("insert into quarterdeck.queue (name, paused) values ($1, true)", QUEUE)
    await stores.insert(new_job())
    assert await stores.claim("w") == []
    await stores.execute("update quarterdeck.queue set paused = false")
    assert len(await stores.claim("w")) == 1


async def test_a_second_claim_raises_the_fence_and_forgets_the_first(stores):
    first = await stores.running()
    await stores.execute("update quarterdeck.job set progress = '{\"fraction\": 0.5}'")
    await stores.attempts.release_worker("worker")
    (second,) = await stores.claim("w2")
    row = await stores.row(first.id)
    assert (second.id, second.fence, second.attempt) == (first.id, first.fence + 1, 1)
    assert (row["worker"], row["progress"], row["state_reason"], row["state_detail"]) == ("w2", None, None, None)
    assert history(row) == ["submitted", "started", "interrupted", "started"]


async def test_a_claim_passes_over_what_another_one_has_taken(stores):
    jobs = [new_job() for _ in range(4)]
    await stores.insert(*jobs)
    async with stores.transaction() as first:
        taken = await first.claim("w1", 2)
        rest = await asyncio.wait_for(stores.claim("w2", 4), 15)
    assert [job.id for job in taken] == [job.id for job in jobs[:2]]
    assert [job.id for job in rest] == [job.id for job in jobs[2:]]


async def test_claimers_at_the_same_time_never_get_the_same_job(stores):
    jobs = [new_job() for _ in range(400)]
    await stores.insert(*jobs)

    async def claimer(name):
        mine = []
        while claimed := await stores.claim(name, 7):
            mine += claimed
        return mine

    shares = await asyncio.gather(*(claimer(f"w{number}") for number in range(4)))
    ids = [job.id for share in shares for job in share]
    assert sorted(ids) == [job.id for job in jobs]
    assert all(shares), "they did not race"
    for number, share in enumerate(shares):
        assert await stores.attempts.held_jobs(f"w{number}") == {job.id: 1 for job in share}


async def test_a_job_that_is_cancelled_just_now_is_not_claimed(stores):
    job = new_job()
    await stores.insert(job)
    async with stores.transaction() as other:
        await other.jobs.cancel_job(job.id, "default")
        assert await asyncio.wait_for(stores.claim("w"), 15) == []
    assert (await stores.row(job.id))["state"] == "cancelled"


async def test_a_job_that_was_finished_meanwhile_is_not_claimed_again(stores):
    claimed = await stores.running()
    async with stores.transaction() as other:
        await other.attempts.finish_jobs([completed(claimed)])
        assert await asyncio.wait_for(stores.claim("w2"), 15) == []
    assert await stores.claim("w2") == []
