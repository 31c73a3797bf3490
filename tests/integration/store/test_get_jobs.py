import asyncio

import pytest

from quarterdeck.domain.outcome import Transition
from quarterdeck.domain.state import Reason, State
from quarterdeck.store.jobs import JobVersion
from tests.support.factories import completed, ended, error_record, new_id, new_job, open_stores


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def test_jobs_are_found_wherever_they_are_and_unknown_ones_are_not(stores):
    waiting, over = new_job(queue="a", tenant="acme"), await stores.running()
    await stores.insert(waiting)
    await stores.finish(over)
    found = await stores.jobs.get_jobs([over.id, new_id(), waiting.id])
    assert {job_id: job.state for job_id, job in found.items()} == {
        waiting.id: State.AVAILABLE,
        over.id: State.COMPLETED,
    }
    assert found[waiting.id].tenant == "acme"


async def test_a_waiting_job_has_neither_an_end_nor_a_result(stores):
    job = new_job()
    await stores.insert(job)
    seen = (await stores.jobs.get_jobs([job.id]))[job.id]
    assert (seen.finalized_at, seen.result, seen.progress, seen.errors, seen.worker) == (None, None, None, [], None)
    assert not seen.terminal


async def test_an_ended_job_tells_its_end(stores):
    claimed = await stores.running()
    error = error_record()
    await stores.attempts.finish_jobs([ended(claimed, Transition.discard(Reason.REJECTED, error, "x is missing"))])
    seen = (await stores.jobs.get_jobs([claimed.id]))[claimed.id]
    assert (seen.state, seen.state_reason, seen.state_detail) == (State.DISCARDED, Reason.REJECTED, "x is missing")
    assert [bytes(each) for each in seen.errors] == [error.encode()]
    assert seen.terminal
    assert seen.finalized_at >= seen.attempted_at >= seen.created_at
    assert seen.seq == 3


async def test_times_are_in_utc(stores):
    job = new_job(ttl=60.0)
    await stores.insert(job)
    seen = (await stores.jobs.get_jobs([job.id]))[job.id]
    assert {moment.utcoffset().total_seconds() for moment in (seen.created_at, seen.run_at, seen.expires_at)} == {0}


async def test_the_progress_of_a_running_job_is_raw_json(stores):
    claimed = await stores.running()
    text = '{"fraction": 0.5,  "message": "\\u0000"}'
    await stores.execute("update quarterdeck.job set progress = $1", text)
    seen = (await stores.jobs.get_jobs([claimed.id]))[claimed.id]
    assert bytes(seen.progress) == text.encode()


async def test_versions_are_told_of_those_that_have_ended_and_of_those_that_are_watched(stores):
    waiting, over = new_job(queue="a"), await stores.running()
    await stores.insert(waiting)
    await stores.finish(over)
    ended = JobVersion(over.id, 1, 3, ended=True)
    assert await stores.jobs.job_versions([waiting.id, over.id, new_id()], []) == [ended]
    both = await stores.jobs.job_versions([waiting.id, over.id], [waiting.id, over.id])
    assert both == [ended, JobVersion(waiting.id, 1, 1, ended=False)]
    assert await stores.jobs.job_versions([], []) == []
    assert await stores.jobs.get_jobs([]) == {}


async def test_a_job_is_never_missing_while_it_moves(stores):
    await stores.insert(*[new_job() for _ in range(100)])
    jobs = await stores.claim("w")
    ids = [job.id for job in jobs]

    async def finish_one_by_one():
        for job in jobs:
            await stores.attempts.finish_jobs([completed(job)])

    moving, counts = asyncio.create_task(finish_one_by_one()), []
    while not moving.done():
        counts.append((len(await stores.jobs.get_jobs(ids)), len(await stores.attempts.fates_of_jobs(ids))))
    await moving
    assert len(counts) > 1, "they did not race"
    assert set(counts) == {(100, 100)}
