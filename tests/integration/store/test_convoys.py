"""Many statements at once about the same jobs lock them in one order, or skip what is locked: nobody deadlocks."""

import asyncio
import random

import pytest

from quarterdeck.domain.outcome import Transition
from quarterdeck.store.job_edits import JobEditStore
from tests.support.factories import EVERY_KIND, completed, ended, new_job, open_stores

JOBS = 150
ROUNDS = 25
TENANT = "default"


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def deadlocks(stores):
    await stores.execute("select pg_stat_force_next_flush()")
    (row,) = await stores.fetch("select deadlocks from pg_stat_database where datname = current_database()")
    return row["deadlocks"]


async def test_claims_ends_cancels_retries_and_rescues_of_the_same_jobs_never_deadlock(stores, database_url):
    jobs = [new_job() for _ in range(JOBS)]
    await stores.insert(*jobs)
    ids = [job.id for job in jobs]
    draw = random.Random(7)

    async def work(number):
        # Workers that nobody registered: what they run is rescued from under them.
        async with open_stores(database_url) as mine:
            for _ in range(ROUNDS):
                claimed = await mine.claim(f"worker-{number}", 40, kinds=EVERY_KIND)
                draw.shuffle(claimed)
                await mine.attempts.finish_jobs([completed(job) for job in claimed[::2]])
                await mine.attempts.reschedule_jobs([ended(job, Transition.interrupt()) for job in claimed[1::2]])

    async def ask(number):
        async with open_stores(database_url) as mine:
            edits = JobEditStore(mine.source)
            for _ in range(ROUNDS):
                some = draw.sample(ids, 12)
                await asyncio.gather(*(mine.jobs.cancel_job(job_id, TENANT) for job_id in some))
                await asyncio.gather(*(edits.retry_job(job_id, TENANT) for job_id in draw.sample(ids, 12)))

    async def keep_up(number):
        async with open_stores(database_url) as mine:
            for _ in range(ROUNDS):
                await mine.upkeep.rescue_jobs(100)
                await mine.attempts.release_worker(f"worker-{number}")
                await mine.upkeep.promote_jobs(100)

    before = await deadlocks(stores)
    await asyncio.gather(*(each(number) for each in (work, ask, keep_up) for number in range(3)))
    assert await deadlocks(stores) == before
    rows = [
        row["id"]
        for table in ("job", "job_history")
        for row in await stores.fetch(f"select id from quarterdeck.{table}")
    ]
    assert sorted(rows) == sorted(ids)
