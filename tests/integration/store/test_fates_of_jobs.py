import pytest

from quarterdeck.domain.outcome import Transition
from quarterdeck.domain.state import State
from tests.support.factories import ended, error_record, new_id, new_job, open_stores


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def test_the_fate_of_a_job_is_told_wherever_it_is(stores):
    waiting, running, over = new_job(queue="a"), await stores.running(queue="b"), await stores.running(queue="c")
    asked = await stores.running(queue="d")
    await stores.insert(waiting)
    await stores.finish(over)
    await stores.jobs.cancel_job(asked.id, "default")
    fates = await stores.attempts.fates_of_jobs([waiting.id, running.id, over.id, asked.id, new_id()])
    assert {job_id: (fate.state, fate.fence, fate.cancel_requested) for job_id, fate in fates.items()} == {
        waiting.id: (State.AVAILABLE, 0, False),
        running.id: (State.RUNNING, 1, False),
        over.id: (State.COMPLETED, 1, False),
        asked.id: (State.RUNNING, 1, True),
    }


async def test_a_cancel_that_was_asked_for_is_told_of_an_ended_job_too(stores):
    claimed = await stores.running()
    await stores.jobs.cancel_job(claimed.id, "default")
    await stores.attempts.finish_jobs([ended(claimed, Transition.retry(0.0, None, error_record()))])
    fate = (await stores.attempts.fates_of_jobs([claimed.id]))[claimed.id]
    assert (fate.state, fate.fence, fate.cancel_requested) == (State.CANCELLED, 1, True)
