import asyncio
import json

import pytest

from quarterdeck.domain.outcome import Transition
from quarterdeck.domain.recorded import log_entry, output_entry, progress_entry
from quarterdeck.store import pool
from quarterdeck.store.recording import Mark, RecordingStore, Told
from tests.support.factories import ended, error_record, new_job, open_stores


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


@pytest.fixture
def recording(stores):
    return RecordingStore(stores.source)


def told(job, *entries, seq=2, fence=None):
    return Told(job.id, job.fence if fence is None else fence, seq, entries)


def lines(*texts):
    return [log_entry("info", text) for text in texts]


async def events_of(stores, job):
    return await stores.fetch("select * from quarterdeck.job_event where job_id = $1 order by seq", job.id)


async def test_events_of_a_job_are_numbered_in_their_order_after_its_seq(stores, recording):
    job = await stores.running(queue="other")
    entries = [progress_entry(0.25, None), *lines("a"), output_entry([1]), progress_entry(0.5, "half"), *lines("b")]
    (recorded,) = await recording.record_events([told(job, *entries)])
    assert (recorded.id, recorded.first, recorded.seq) == (job.id, 3, 7)
    rows = await events_of(stores, job)
    assert [(row["seq"], row["event"], json.loads(row["data"])) for row in rows] == [
        (3, "progress", {"fraction": 0.25, "message": None}),
        (4, "log", {"level": "info", "message": "a"}),
        (5, "output", [1]),
        (6, "progress", {"fraction": 0.5, "message": "half"}),
        (7, "log", {"level": "info", "message": "b"}),
    ]
    assert {(row["queue"], row["generation"], row["attempt"]) for row in rows} == {("other", 1, 1)}
    row = await stores.row(job.id)
    assert (row["seq"], json.loads(row["progress"])) == (7, {"fraction": 0.5, "message": "half"})


async def test_what_is_no_progress_leaves_the_progress_alone(stores, recording):
    job = await stores.running()
    await recording.record_events([told(job, progress_entry(0.5, None))])
    await recording.record_events([told(job, *lines("a"), seq=3)])
    row = await stores.row(job.id)
    assert (row["seq"], json.loads(row["progress"])["fraction"]) == (4, 0.5)


async def test_a_group_writes_many_jobs_each_its_own(stores, recording):
    await stores.insert(*[new_job() for _ in range(300)])
    jobs = await stores.claim("w", 300)
    group = [told(job, *lines(*[f"{job.id} {n}" for n in range(1 + place % 7)])) for place, job in enumerate(jobs)]
    recorded = await recording.record_events(group[::-1])
    assert {row.id: (row.first, row.seq) for row in recorded} == {each.id: (3, 2 + len(each.entries)) for each in group}
    for job, each in zip(jobs, group, strict=True):
        rows = await events_of(stores, job)
        assert [row["seq"] for row in rows] == list(range(3, 3 + len(each.entries)))
        assert [row["data"] for row in rows] == [entry.data for entry in each.entries]


async def test_a_later_attempt_says_so(stores, recording):
    job = await stores.running()
    await recording.record_events([told(job, *lines("first"))])
    await stores.attempts.reschedule_jobs([ended(job, Transition.retry(0.0, None, error_record()))])
    await stores.upkeep.promote_jobs(1)
    (job,) = await stores.claim("w")
    assert job.job().seq == 6
    await recording.record_events([told(job, *lines("second"), seq=6)])
    assert [(row["seq"], row["attempt"]) for row in await events_of(stores, job)] == [(3, 1), (7, 2)]


@pytest.mark.parametrize("fence", [0, 2])
async def test_a_foreign_fence_changes_nothing(stores, recording, fence):
    job, other = await stores.running(), await stores.running()
    before = await stores.row(job.id)
    recorded = await recording.record_events([told(job, *lines("a"), fence=fence), told(other, *lines("b"))])
    assert [row.id for row in recorded] == [other.id]
    assert await stores.row(job.id) == before
    assert await events_of(stores, job) == []


async def test_a_job_that_was_put_back_or_has_ended_changes_no_more(stores, recording):
    back, over = await stores.running(), await stores.running()
    await stores.attempts.reschedule_jobs([ended(back, Transition.interrupt())])
    await stores.finish(over)
    assert await recording.record_events([told(back, *lines("a"), seq=3), told(over, *lines("a"), seq=3)]) == []
    assert [await events_of(stores, job) for job in (back, over)] == [[], []]
    assert await recording.recorded_events({back.id: 2, over.id: 2}) == {}


async def test_a_write_that_got_through_changes_nothing_the_second_time(stores, recording):
    job = await stores.running()
    group = [told(job, *lines("a", "b"))]
    assert len(await recording.record_events(group)) == 1
    assert await recording.record_events(group) == []
    assert len(await events_of(stores, job)) == 2
    assert await recording.recorded_events({job.id: 2}) == {job.id: Mark(job.id, job.fence, 4, stored=True)}
    assert await recording.recorded_events({job.id: 4}) == {job.id: Mark(job.id, job.fence, 4, stored=False)}


async def test_two_tries_at_once_write_once(stores, recording):
    job = await stores.running()
    async with stores.transaction() as other:
        await RecordingStore(other.source).record_events([told(job, *lines("a"))])
        again = asyncio.create_task(recording.record_events([told(job, *lines("a"))]))
        await stores.until_somebody_waits()
    assert await again == []
    assert [row["seq"] for row in await events_of(stores, job)] == [3]


async def test_a_cancel_that_comes_between_shifts_the_numbers(stores, recording):
    job = await stores.running()
    async with stores.transaction() as other:
        await other.jobs.cancel_job(job.id, "default")
        write = asyncio.create_task(recording.record_events([told(job, *lines("a"))]))
        await stores.until_somebody_waits()
    assert await write == []
    assert await recording.recorded_events({job.id: 2}) == {job.id: Mark(job.id, job.fence, 3, stored=False)}
    (recorded,) = await recording.record_events([told(job, *lines("a"), seq=3)])
    assert (recorded.first, recorded.seq) == (4, 4)


async def test_groups_of_the_same_jobs_in_opposite_order_do_not_lock_each_other_out(stores, recording):
    await stores.insert(*[new_job() for _ in range(100)])
    group = [told(job, *lines("a")) for job in await stores.claim("w")]
    written = await asyncio.gather(*(recording.record_events(each) for each in (group, group[::-1], group)))
    assert sorted(row.id for each in written for row in each) == sorted(each.id for each in group)


async def test_a_value_that_cannot_be_stored_is_the_fault_of_a_row(stores, recording):
    job = await stores.running()
    with pytest.raises(Exception, match="json") as caught:
        await recording.record_events([told(job, *lines("a"), output_entry(1).__class__("output", "{"))])
    assert pool.is_data_error(caught.value)
    assert await events_of(stores, job) == []


@pytest.mark.parametrize("text", ["\0", "\ud800", "ü€😀", "\x1b[31m", '"\\'], ids=repr)
async def test_any_text_survives(stores, recording, text):
    job = await stores.running()
    await recording.record_events([told(job, *lines(text), progress_entry(1, text), output_entry({text: text}))])
    line, progress, output = [json.loads(row["data"]) for row in await events_of(stores, job)]
    assert (line["message"], progress["message"], output) == (text, text, {text: text})
