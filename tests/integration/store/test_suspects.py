"""Jobs that were lost with two workers: who is to run them alone, and which crashes are taken back."""

import datetime as dt

import pytest

from quarterdeck.domain.state import State
from tests.support.factories import completed, history, new_job, open_stores, timeline


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def suspects(stores, count=1, **options):
    """Insert jobs as they are after their second crash; return their ids."""
    jobs = [new_job(**options) for _ in range(count)]
    await stores.insert(*jobs)
    ids = [job.id for job in jobs]
    await stores.execute("update quarterdeck.job set crashes = 2 where id = any($1)", ids)
    return ids


async def test_a_claim_leaves_alone_what_was_lost_twice(stores):
    (suspect,) = await suspects(stores)
    once = new_job()
    await stores.insert(once)
    await stores.execute("update quarterdeck.job set crashes = 1 where id = $1", once.id)
    assert [job.id for job in await stores.claim("worker")] == [once.id]
    assert (await stores.row(suspect))["state"] == "available"


async def test_one_live_worker_is_to_run_a_suspect_and_all_agree_which(stores):
    workers = [await stores.register() for _ in range(3)]
    chosen = []
    for _ in range(12):
        (suspect,) = await suspects(stores)
        turns = [worker for worker in workers if await stores.attempts.pick_suspect(worker) == suspect]
        assert len(turns) == 1
        chosen += turns
        await stores.execute("delete from quarterdeck.job")
    assert len(set(chosen)) > 1, "the turns go round"


@pytest.mark.parametrize(
    "worker",
    [
        {"kinds": ["other"]},
        {"kinds": []},
        {"queues": "other"},
        {"queues": "a,other-*=5"},
        {"lease": 0.0},
        {"draining": True},
    ],
    ids=str,
)
async def test_whoever_could_not_run_it_is_not_chosen(stores, worker):
    (suspect,) = await suspects(stores, queue="default", kind="echo")
    draining = worker.pop("draining", False)
    unfit = await stores.register(**worker)
    if draining:
        await stores.execute("update quarterdeck.worker set draining = true where id = $1", unfit)
    assert await stores.attempts.pick_suspect(unfit) is None
    fit = await stores.register()
    assert await stores.attempts.pick_suspect(fit) == suspect


@pytest.mark.parametrize("queues", [None, "tenant-1", "a, tenant-1=5", "tenant-*", "*", "a,tenant-*=3"])
async def test_the_queues_of_a_worker_are_understood_as_it_understands_them(stores, queues):
    (suspect,) = await suspects(stores, queue="tenant-1")
    assert await stores.attempts.pick_suspect(await stores.register(queues=queues)) == suspect


async def test_a_suspect_that_is_not_to_run_now_is_nobodys_turn(stores):
    worker = await stores.register()
    await suspects(stores, queue="paused")
    await stores.execute("insert into quarterdeck.queue (name, paused) values ('paused', true)")
    await suspects(stores, delay=3600.0)
    await suspects(stores, expires_at=dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1))
    assert await stores.attempts.pick_suspect(worker) is None


async def test_a_suspect_is_claimed_once(stores):
    (suspect,) = await suspects(stores)
    claimed = await stores.attempts.claim_suspect(suspect, "worker")
    assert (claimed.id, claimed.attempt, claimed.fence) == (suspect, 1, 1)
    assert history(await stores.row(suspect)) == ["submitted", "started"]
    assert await stores.attempts.claim_suspect(suspect, "another") is None
    await stores.finish(claimed)
    assert await stores.attempts.claim_suspect(suspect, "another") is None


async def test_the_tick_sees_suspects_that_wait(stores):
    assert not (await stores.upkeep.tick("worker")).suspects
    (suspect,) = await suspects(stores)
    assert (await stores.upkeep.tick("worker")).suspects
    await stores.attempts.claim_suspect(suspect, "worker")
    assert not (await stores.upkeep.tick("worker")).suspects


# Crashes that were none


async def rescued(stores):
    """A job that was rescued from a worker; its last claim."""
    claimed = await stores.running("away")
    (freed,) = await stores.upkeep.rescue_jobs(10)
    assert freed.state is State.AVAILABLE
    return claimed


async def test_a_crash_is_taken_back_while_the_job_waits(stores):
    claimed = await rescued(stores)
    (forgiven,) = await stores.attempts.forgive_crashes({claimed.id: claimed.fence})
    row = await stores.row(claimed.id)
    assert (forgiven.id, row["crashes"], row["state"], row["seq"]) == (claimed.id, 0, "available", 4)
    assert (timeline(row)[-1].event, timeline(row)[-1].fields) == ("updated", {"crashes": 0})


async def test_a_crash_is_taken_back_while_somebody_else_runs_the_job(stores):
    claimed = await rescued(stores)
    (again,) = await stores.claim("other")
    assert len(await stores.attempts.forgive_crashes({claimed.id: claimed.fence})) == 1
    assert (await stores.row(claimed.id))["crashes"] == 0
    assert len(await stores.attempts.finish_jobs([completed(again)])) == 1, "it is still theirs"


async def test_what_was_not_rescued_from_this_worker_keeps_its_crashes(stores):
    running = await stores.running("worker", queue="a")
    released = await stores.running("gone", queue="b")
    ended = await stores.running("worker", queue="c")
    await stores.attempts.release_worker("gone")
    await stores.execute("update quarterdeck.job set crashes = 1")
    await stores.finish(ended)
    held = {job.id: job.fence for job in (running, released, ended)}
    assert await stores.attempts.forgive_crashes(held) == []
    assert {row["crashes"] for row in await stores.fetch("select crashes from quarterdeck.job")} == {1}
