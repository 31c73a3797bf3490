import asyncio
import datetime as dt

import pytest

from quarterdeck.domain.edit import Edit
from quarterdeck.store.job_edits import JobEditStore
from tests.support.factories import completed, history, new_id, new_job, open_stores

HOUR = dt.timedelta(hours=1)


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def update(stores, job_id, *, tenant="default", versions=None, **fields):
    return await JobEditStore(stores.source).update_job(job_id, tenant, Edit(**fields), versions)


async def inserted(stores, **options):
    job = new_job(**options)
    await stores.insert(job)
    return job


def later(hours=1):
    return dt.datetime.now(dt.UTC).replace(microsecond=0) + hours * HOUR


@pytest.mark.parametrize("state", ["pending", "scheduled", "available", "retryable"])
async def test_fields_of_a_waiting_job_are_replaced_as_one_event(stores, state):
    job = await inserted(stores, args={"a": {"b": 1}, "c": 2}, tags=["old"], metadata={"old": 1})
    await stores.execute("update quarterdeck.job set state = $1", state)
    edited = await update(stores, job.id, args={"a": {}}, priority=0, tags=["new", "{}", '"'], metadata={"new": 2})
    row = await stores.row(job.id)
    assert (row["state"], row["seq"], row["priority"], row["tags"]) == (state, 2, 0, ["new", "{}", '"'])
    assert (row["args"], row["metadata"]) == ({"a": {}}, {"new": 2})
    assert history(row) == ["submitted", "updated"]
    assert edited.refusal is None
    assert {edited.job.id: edited.job} == await stores.jobs.get_jobs([job.id])


@pytest.mark.parametrize(
    "fields", [{"args": {}}, {"priority": 9}, {"tags": []}, {"metadata": {}}, {"run_at": later()}, {"queue": "q"}]
)
async def test_what_is_not_given_stays(stores, fields):
    job = await inserted(stores, args={"a": 1}, tags=["t"], metadata={"m": 1})
    before = dict(await stores.row(job.id))
    await update(stores, job.id, **fields)
    after = dict(await stores.row(job.id))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {*fields, "seq", "timeline"} | ({"state"} if "run_at" in fields else set())


async def test_an_update_to_what_is_already_so_changes_nothing(stores):
    job = await inserted(stores, args={"a": 1, "b": 2.0}, tags=["t"])
    before = await stores.row(job.id)
    for fields in ({}, {"args": {"b": 2.0, "a": 1}, "tags": ["t"], "priority": 5, "queue": "default"}):
        edited = await update(stores, job.id, **fields)
        assert (edited.job, edited.refusal) == (None, None)
        assert await stores.row(job.id) == before


@pytest.mark.parametrize(
    ("state", "hours", "becomes"),
    [
        ("available", 1, "scheduled"),
        ("available", -1, "available"),
        ("scheduled", 2, "scheduled"),
        ("scheduled", -1, "available"),
        ("retryable", 1, "retryable"),
        ("retryable", -1, "available"),
        ("pending", 1, "pending"),
        ("pending", -1, "pending"),
    ],
)
async def test_when_it_is_due_decides_where_it_waits(stores, state, hours, becomes):
    job = await inserted(stores)
    await stores.execute("update quarterdeck.job set state = $1, state_reason = 'crashed', state_detail = 'x'", state)
    at = later(hours)
    edited = await update(stores, job.id, run_at=at)
    row = await stores.row(job.id)
    assert (edited.job.state, row["state"], row["run_at"]) == (becomes, becomes, at)
    assert (row["state_reason"], row["state_detail"]) == (("crashed", "x") if state == becomes else (None, None))
    assert history(row) == ["submitted", "updated"]


async def test_a_time_to_live_counts_from_the_new_time(stores):
    at, end = later(), later(5)
    with_ttl, absolute = await inserted(stores, ttl=60.0), await inserted(stores, expires_at=end)
    assert (await update(stores, with_ttl.id, run_at=at)).job.expires_at == at + dt.timedelta(seconds=60)
    assert (await update(stores, absolute.id, run_at=at)).job.expires_at == end
    claimed = await stores.running()
    await stores.execute(
        "update quarterdeck.job set state = 'retryable', worker = null, ttl = 60 where id = $1", claimed.id
    )
    assert (await update(stores, claimed.id, run_at=at)).job.expires_at is None, "it has started"


async def test_the_queue_may_change_until_the_job_has_started(stores):
    job = await inserted(stores)
    assert (await update(stores, job.id, queue="other")).job.queue == "other"
    (claimed,) = await stores.claim("w", queue="other")
    await stores.execute("update quarterdeck.job set state = 'retryable', worker = null")
    edited = await update(stores, job.id, queue="third", priority=0)
    assert (edited.job, edited.refusal) == (None, "started")
    assert (await update(stores, job.id, queue="other", priority=0)).job.priority == 0, (
        "the queue it is in is no change"
    )
    assert claimed.id == job.id


async def test_a_job_that_runs_or_has_ended_is_left_alone(stores):
    claimed = await stores.running()
    before = await stores.row(claimed.id)
    assert (await update(stores, claimed.id, priority=0)).refusal == "running"
    assert await stores.row(claimed.id) == before
    await stores.finish(claimed)
    assert await update(stores, claimed.id, priority=0) is None


async def test_a_job_of_another_tenant_is_not_there(stores):
    job = await inserted(stores, tenant="acme")
    assert await update(stores, job.id, priority=0) is None
    assert await update(stores, new_id(), priority=0) is None
    assert await update(stores, job.id, priority=0, tenant="acme")


@pytest.mark.parametrize(
    ("versions", "refusal"),
    [
        (None, None),
        (["1-1"], None),
        (["9-9", "1-1"], None),
        (["1-2"], "version"),
        (["2-1"], "version"),
        ([], "version"),
    ],
)
async def test_only_the_version_that_the_caller_knows_is_changed(stores, versions, refusal):
    job = await inserted(stores)
    edited = await update(stores, job.id, priority=0, versions=versions)
    assert edited.refusal == refusal
    assert (await stores.row(job.id))["priority"] == (5 if refusal else 0)


async def keys(stores):
    rows = await stores.fetch("select queue, key, job_id, held_until from quarterdeck.unique_key order by queue")
    return [(row["queue"], row["key"], row["job_id"]) for row in rows]


async def test_a_unique_key_goes_with_its_job_to_another_queue(stores):
    job = await inserted(stores, unique_key="k", unique_period=3600.0)
    (held,) = await stores.fetch("select held_until from quarterdeck.unique_key")
    assert (await update(stores, job.id, queue="other")).job.queue == "other"
    assert await keys(stores) == [("other", "k", job.id)]
    assert await stores.fetch("select held_until from quarterdeck.unique_key") == [held]


async def test_a_queue_where_the_unique_key_is_taken_is_refused(stores):
    job, other = await inserted(stores, unique_key="k"), await inserted(stores, unique_key="k", queue="other")
    before = await keys(stores)
    edited = await update(stores, job.id, queue="other", priority=0)
    assert (edited.job, edited.refusal) == (None, "unique")
    assert await keys(stores) == before
    assert (await stores.row(job.id))["priority"] == 5
    # An ended holder whose time is over does not count.
    await stores.execute(
        "update quarterdeck.unique_key set ended = true, held_until = now() where job_id = $1", other.id
    )
    assert (await update(stores, job.id, queue="other")).job.queue == "other"
    assert await keys(stores) == [("other", "k", job.id)]


async def test_an_update_during_a_claim_finds_a_running_job(stores):
    job = await inserted(stores)
    async with stores.transaction() as other:
        await other.claim("w")
        late = asyncio.create_task(update(stores, job.id, priority=0))
        await stores.until_somebody_waits()
    assert (await late).refusal == "running"
    assert history(await stores.row(job.id)) == ["submitted", "started"]


async def test_a_claim_during_an_update_takes_another_job(stores):
    first, second = await inserted(stores), await inserted(stores)
    async with stores.transaction() as other:
        await update(other, first.id, priority=9)
        assert [claimed.id for claimed in await stores.claim("w")] == [second.id]
    (claimed,) = await stores.claim("w")
    assert claimed.id == first.id
    assert history(await stores.row(first.id)) == ["submitted", "updated", "started"]


async def test_an_update_during_a_finish_finds_no_unfinished_job(stores):
    claimed = await stores.running()
    async with stores.transaction() as other:
        await other.attempts.finish_jobs([completed(claimed)])
        late = asyncio.create_task(update(stores, claimed.id, priority=0))
        await stores.until_somebody_waits()
    assert await late is None


async def test_two_updates_at_the_same_time_are_two_events(stores):
    job = await inserted(stores)
    async with stores.transaction() as other:
        await update(other, job.id, priority=1, queue="elsewhere")
        late = asyncio.create_task(update(stores, job.id, tags=["t"]))
        await stores.until_somebody_waits()
    edited = await late
    assert (edited.job.priority, edited.job.queue, edited.job.tags, edited.job.seq) == (1, "elsewhere", ["t"], 3)
    assert history(await stores.row(job.id)) == ["submitted", "updated", "updated"]


async def test_of_two_updates_of_one_version_one_is_refused(stores):
    job = await inserted(stores)
    async with stores.transaction() as other:
        assert (await update(other, job.id, priority=1, versions=["1-1"])).job
        late = asyncio.create_task(update(stores, job.id, priority=2, versions=["1-1"]))
        await stores.until_somebody_waits()
    assert (await late).refusal == "version"
    assert (await stores.row(job.id))["priority"] == 1
