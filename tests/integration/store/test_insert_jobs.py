import asyncio
import datetime as dt

import pytest

from quarterdeck.domain.state import State
from tests.support.factories import QUEUE, history, new_id, new_job, open_stores, timeline

HOUR = dt.timedelta(hours=1)


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def offer(stores, worker, *jobs):
    """Insert jobs, each to be handed off to `worker` if nothing speaks against it; return their states in order."""
    facts = await stores.jobs.insert_jobs(jobs, [True] * len(jobs), worker)
    return [facts[job.id].state for job in jobs]


# --- what is stored


async def test_a_job_due_at_once_is_available(stores):
    job = new_job()
    (fact,) = await stores.insert(job)
    row = await stores.row(job.id)
    assert (fact.state, fact.seq, fact.attempted_at) == (State.AVAILABLE, 1, None)
    assert (row["state"], row["attempt"], row["fence"], row["worker"]) == ("available", 0, 0, None)
    assert (row["created_at"], row["run_at"]) == (fact.created_at, fact.run_at) == (fact.created_at, fact.created_at)
    (event,) = timeline(row)
    assert (event.event, event.fields) == ("submitted", {"state": "available"})
    assert event.ms == pytest.approx(row["created_at"].timestamp() * 1000, abs=1)


async def test_every_option_of_a_job_comes_back_as_it_was_given(stores):
    job = new_job(
        kind="k",
        args={"text": 'a"\\é😀', "n": 2**64 - 1, "f": 0.1, "deep": [{"a": [None, True]}]},
        queue="images",
        tenant="acme",
        priority=0,
        timeout=0.25,
        max_attempts=1000,
        tags=["b", "a", 'c"{}, \\', "é", "null"],
        metadata={"a": [1]},
        retry={"backoff": [1.0, 2.5]},
        traceparent="00-1-2-03",
        parent_id=new_id(),
    )
    await stores.insert(job)
    row = await stores.row(job.id)
    for field in (
        "kind",
        "args",
        "queue",
        "tenant",
        "priority",
        "timeout",
        "max_attempts",
        "tags",
        "metadata",
        "retry",
    ):
        assert row[field] == getattr(job, field), field
    assert (row["traceparent"], row["parent_id"]) == (job.traceparent, job.parent_id)
    read = (await stores.jobs.get_jobs([job.id]))[job.id]
    assert (read.args, read.tags, read.metadata, read.timeout) == (job.args, job.tags, job.metadata, 0.25)


async def test_a_job_without_options_has_none(stores):
    job = new_job(timeout=None)
    await stores.insert(job)
    row = await stores.row(job.id)
    assert (row["timeout"], row["retry"], row["expires_at"], row["tags"], row["metadata"]) == (None, None, None, [], {})


@pytest.mark.parametrize(
    "options",
    # The moment is that of the test, not of its collection.
    [lambda: {"delay": 3600.0}, lambda: {"run_at": dt.datetime.now(dt.UTC) + HOUR}],
    ids=["delay", "run_at"],
)
async def test_a_job_due_later_is_scheduled(stores, options):
    job = new_job(**options())
    (fact,) = await stores.insert(job)
    row = await stores.row(job.id)
    assert fact.state is State.SCHEDULED
    assert fact.run_at == row["run_at"] == pytest.approx(fact.created_at + HOUR, abs=dt.timedelta(minutes=5))
    assert timeline(row)[0].fields == {"state": "scheduled"}


async def test_a_delay_counts_from_the_databases_clock(stores):
    (fact,) = await stores.insert(new_job(delay=3600.5))
    assert fact.run_at - fact.created_at == dt.timedelta(seconds=3600.5)


@pytest.mark.parametrize(
    "options", [{"delay": 0.0}, {"run_at": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}], ids=["delay", "run_at"]
)
async def test_a_job_due_in_the_past_is_available_and_keeps_its_moment(stores, options):
    job = new_job(**options)
    (fact,) = await stores.insert(job)
    assert fact.state is State.AVAILABLE
    assert fact.run_at == options.get("run_at", fact.created_at)


async def test_a_time_to_live_counts_from_when_the_job_is_due(stores):
    now_job, later = new_job(ttl=60.0), new_job(ttl=60.0, delay=3600.0)
    facts = await stores.insert(now_job, later)
    for fact in facts:
        assert fact.expires_at - fact.run_at == dt.timedelta(seconds=60)
    assert (await stores.row(later.id))["ttl"] == 60.0


async def test_a_moment_of_expiry_is_kept_as_it_is(stores):
    moment = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    (fact,) = await stores.insert(new_job(expires_at=moment))
    assert fact.expires_at == moment


async def test_a_group_may_come_in_any_order(stores):
    jobs = [new_job(priority=number % 10) for number in range(20)]
    facts = await stores.insert(*reversed(jobs))
    assert [fact.id for fact in facts] == [job.id for job in reversed(jobs)]
    for job in jobs:
        assert (await stores.row(job.id))["priority"] == job.priority


# --- the same id again


async def test_a_job_that_is_there_already_is_left_alone(stores):
    job, other = new_job(args={"a": 1}), new_job()
    await stores.insert(job)
    again = await stores.jobs.insert_jobs([new_job(id=job.id, args={"a": 2}), other], [False, False], None)
    assert set(again) == {other.id}
    assert (await stores.row(job.id))["args"] == {"a": 1}


async def test_a_job_that_runs_already_is_not_handed_off_again(stores):
    worker = await stores.register()
    job = new_job()
    assert await offer(stores, worker, job) == [State.RUNNING]
    assert await stores.jobs.insert_jobs([job], [True], worker) == {}
    row = await stores.row(job.id)
    assert (row["attempt"], row["fence"], row["seq"]) == (1, 1, 2)


async def test_two_inserts_of_the_same_job_at_the_same_time_store_it_once(stores):
    job = new_job()
    async with stores.transaction() as first:
        await first.insert(job)
        second = asyncio.create_task(stores.jobs.insert_jobs([job], [False], None))
        await stores.until_somebody_waits()
    assert await second == {}
    assert (await stores.row(job.id))["seq"] == 1


async def test_two_groups_of_the_same_jobs_in_opposite_order_do_not_lock_each_other_out(stores):
    jobs = [new_job() for _ in range(200)]
    groups = [jobs, jobs[::-1], jobs, jobs[::-1]]
    inserted = await asyncio.gather(*(stores.jobs.insert_jobs(group, [False] * 200, None) for group in groups))
    assert sum(len(each) for each in inserted) == 200


# --- the hand-off: every condition alone


async def test_a_due_job_of_an_idle_queue_is_handed_to_the_worker_that_inserts_it(stores):
    worker = await stores.register()
    job = new_job(ttl=60.0)
    facts = await stores.jobs.insert_jobs([job], [True], worker)
    row = await stores.row(job.id)
    assert (facts[job.id].state, facts[job.id].seq) == (State.RUNNING, 2)
    assert facts[job.id].attempted_at == row["attempted_at"] == row["created_at"]
    assert (row["state"], row["worker"], row["attempt"], row["fence"]) == ("running", worker, 1, 1)
    submitted, started = timeline(row)
    assert (submitted.event, submitted.fields) == ("submitted", {"state": "available"})
    assert (started.event, started.fields) == ("started", {"attempt": 1})
    assert await stores.attempts.held_jobs(worker) == {job.id: 1}


async def test_a_group_is_handed_off_whole_and_only_what_is_marked(stores):
    worker = await stores.register()
    marked, unmarked = [new_job() for _ in range(3)], new_job()
    facts = await stores.jobs.insert_jobs([*marked, unmarked], [True, True, True, False], worker)
    assert [facts[job.id].state for job in marked] == [State.RUNNING] * 3
    assert facts[unmarked.id].state is State.AVAILABLE


async def test_nothing_is_handed_to_a_worker_that_is_not_registered(stores):
    assert await offer(stores, "nobody", new_job()) == [State.AVAILABLE]
    assert await offer(stores, None, new_job()) == [State.AVAILABLE]


async def test_nothing_is_handed_to_a_worker_whose_lease_is_over(stores):
    worker = await stores.register(lease=0.0)
    assert await offer(stores, worker, new_job()) == [State.AVAILABLE]


async def test_nothing_overtakes_a_job_that_is_available_in_the_queue(stores):
    worker = await stores.register()
    await stores.insert(new_job(priority=9, kind="nobody-has-this"))
    assert await offer(stores, worker, new_job(priority=0)) == [State.AVAILABLE]


async def test_nothing_overtakes_an_available_job_that_has_a_concurrency_key(stores):
    worker = await stores.register()
    job = new_job()
    await stores.insert(job)
    await stores.execute("update quarterdeck.job set concurrency_key = 'customer:1' where id = $1", job.id)
    assert await offer(stores, worker, new_job()) == [State.AVAILABLE]


@pytest.mark.parametrize(
    "setting",
    ["paused = true", "concurrency = 5", "rate = '100/1m', rate_every = '600 ms', rate_burst = 100"],
    ids=["paused", "concurrency", "rate"],
)
async def test_nothing_is_handed_off_in_a_queue_that_is_paused_or_limited(stores, setting):
    worker = await stores.register()
    await stores.execute("insert into quarterdeck.queue (name) values ($1), ('other')", QUEUE)
    assert await offer(stores, worker, new_job()) == [State.RUNNING], "a row of settings alone is no limit"
    await stores.execute(f"update quarterdeck.queue set {setting} where name = $1", QUEUE)
    assert await offer(stores, worker, new_job()) == [State.AVAILABLE]


async def test_a_job_due_later_is_not_handed_off(stores):
    worker = await stores.register()
    assert await offer(stores, worker, new_job(delay=3600.0)) == [State.SCHEDULED]
    assert await offer(stores, worker, new_job(run_at=dt.datetime.now(dt.UTC) + HOUR)) == [State.SCHEDULED]


@pytest.mark.parametrize(
    "options",
    [{"ttl": 0.0}, {"expires_at": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}],
    ids=["ttl", "expires_at"],
)
async def test_a_job_that_is_expired_when_it_comes_is_not_handed_off(stores, options):
    worker = await stores.register()
    assert await offer(stores, worker, new_job(**options)) == [State.AVAILABLE]


async def test_what_waits_in_another_queue_or_is_not_available_does_not_matter(stores):
    worker = await stores.register()
    await stores.insert(new_job(queue="other"), new_job(delay=3600.0))
    assert await offer(stores, worker, new_job()) == [State.RUNNING]
    assert await offer(stores, worker, new_job()) == [State.RUNNING], "a running job is none that waits"


async def test_each_queue_of_a_group_is_looked_at_by_itself(stores):
    worker = await stores.register()
    await stores.insert(new_job(queue="busy"))
    states = await offer(stores, worker, new_job(queue="busy"), new_job(queue="idle"), new_job(queue="busy"))
    assert states == [State.AVAILABLE, State.RUNNING, State.AVAILABLE]


async def test_a_job_handed_off_ends_like_any_other(stores):
    worker = await stores.register()
    job = new_job()
    await offer(stores, worker, job)
    (claimed_again,) = [*(await stores.attempts.held_jobs(worker)).items()]
    assert claimed_again == (job.id, 1)
    assert await stores.claim("other-worker") == []
    (row,) = await stores.attempts.release_worker(worker)
    assert row.state is State.AVAILABLE
    (claimed,) = await stores.claim("other-worker")
    await stores.finish(claimed)
    assert history(await stores.row(job.id)) == ["submitted", "started", "interrupted", "started", "completed"]
