import asyncio
import json

import pytest

from quarterdeck.domain.jsonvalue import encode_result
from quarterdeck.domain.outcome import Transition
from quarterdeck.domain.state import Reason, State
from quarterdeck.store.attempts import Ended
from tests.support.factories import completed, ended, error_record, history, new_id, new_job, open_stores, timeline

ENDS = {
    "completed": Transition.complete('{"a":1}'),
    "cancelled": Transition.cancel(None, detail="no use"),
    "discarded": Transition.discard(Reason.ATTEMPTS_EXHAUSTED, error_record()),
}


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


@pytest.mark.parametrize("state", ENDS)
async def test_an_ended_job_moves_to_the_history_with_everything_it_was(stores, state):
    claimed = await stores.running(args={"a": 1}, tags=["t"], metadata={"m": 2}, ttl=60.0, retry={"base": 1.0})
    before = dict(await stores.row(claimed.id))
    transition = ENDS[state]
    (written,) = await stores.attempts.finish_jobs([ended(claimed, transition)])
    assert (written.id, written.queue, written.state, written.seq) == (claimed.id, "default", State(state), 3)
    assert await stores.fetch("select from quarterdeck.job") == []
    after = dict(await stores.row(claimed.id))
    assert (after["state"], after["state_reason"], after["state_detail"]) == (
        state,
        transition.reason,
        transition.detail,
    )
    assert (after["result"], after["errors"]) == (transition.result, [transition.error] if transition.error else [])
    assert after["finalized_at"] >= after["attempted_at"]
    assert after["worker"] == "worker", "who ran it stays known"
    changed = {"state", "state_reason", "state_detail", "result", "errors", "finalized_at", "seq", "timeline"}
    assert {name: after[name] for name in before if name not in changed} == {
        name: value for name, value in before.items() if name not in changed
    }


async def test_the_end_is_the_last_event_of_the_timeline(stores):
    claimed = await stores.running()
    await stores.finish(claimed)
    row = await stores.row(claimed.id)
    assert history(row) == ["submitted", "started", "completed"]
    assert timeline(row)[-1].ms == pytest.approx(row["finalized_at"].timestamp() * 1000, abs=1)


async def test_a_group_ends_each_job_in_its_own_way(stores):
    await stores.insert(*[new_job() for _ in range(9)])
    jobs = await stores.claim("w")
    transitions = [*ENDS.values()] * 3
    group = [ended(job, transition) for job, transition in zip(jobs, transitions, strict=True)]
    written = await stores.attempts.finish_jobs(group[::-1])
    assert {row.id: row.state for row in written} == {end.id: end.transition.state for end in group}
    for end in group:
        assert (await stores.row(end.id))["result"] == end.transition.result


@pytest.mark.parametrize("fence", [0, 2, 3])
async def test_a_stale_fence_ends_nothing(stores, fence):
    claimed = await stores.running()
    before = await stores.row(claimed.id)
    stale = ended(claimed, ENDS["completed"], fence=fence)
    assert await stores.attempts.finish_jobs([stale]) == []
    assert await stores.row(claimed.id) == before


async def test_a_worker_that_lost_its_job_cannot_end_it_when_another_one_runs_it(stores):
    first = await stores.running("w1")
    await stores.attempts.release_worker("w1")
    (second,) = await stores.claim("w2")
    assert await stores.attempts.finish_jobs([completed(first, '"late"')]) == []
    (written,) = await stores.attempts.finish_jobs([completed(second, '"right"')])
    assert written.id == first.id
    assert (await stores.row(first.id))["result"] == '"right"'


async def test_a_worker_that_lost_its_job_cannot_end_it_while_it_waits(stores):
    claimed = await stores.running()
    await stores.attempts.release_worker("worker")
    assert await stores.attempts.finish_jobs([completed(claimed)]) == []
    assert (await stores.row(claimed.id))["state"] == "available"


async def test_each_job_of_a_group_is_held_to_its_own_fence(stores):
    await stores.insert(*[new_job() for _ in range(3)])
    await stores.claim("w")
    await stores.attempts.release_worker("w")
    first, second, third = await stores.claim("w")
    stale = ended(second, ENDS["completed"], fence=1)
    unknown = Ended(new_id(), 2, ENDS["completed"])
    written = await stores.attempts.finish_jobs([completed(first), stale, unknown, completed(third)])
    assert {row.id for row in written} == {first.id, third.id}
    assert (await stores.row(second.id))["state"] == "running"


async def test_the_same_end_a_second_time_changes_nothing(stores):
    claimed = await stores.running()
    await stores.attempts.finish_jobs([completed(claimed, '"first"')])
    before = await stores.row(claimed.id)
    assert await stores.attempts.finish_jobs([completed(claimed, '"second"')]) == []
    assert await stores.row(claimed.id) == before


@pytest.mark.parametrize("state", ENDS)
async def test_a_requested_cancel_wins_over_every_end_but_a_result(stores, state):
    claimed = await stores.running()
    await stores.jobs.cancel_job(claimed.id, "default")
    (written,) = await stores.attempts.finish_jobs([ended(claimed, ENDS[state])])
    row = await stores.row(claimed.id)
    if state == "completed":
        assert (written.state, row["state_reason"], row["result"]) == (State.COMPLETED, None, '{"a":1}')
    else:
        assert (written.state, row["state_reason"]) == (State.CANCELLED, "cancel_requested")
        assert row["errors"] == ([ENDS[state].error] if ENDS[state].error else [])
    assert row["cancel_requested_at"] is not None
    assert history(row)[-2:] == ["cancel_requested", written.state.value]


async def test_an_end_waits_for_a_cancel_that_is_being_written(stores):
    claimed = await stores.running()
    async with stores.transaction() as other:
        await other.jobs.cancel_job(claimed.id, "default")
        finish = asyncio.create_task(stores.attempts.finish_jobs([ended(claimed, ENDS["discarded"])]))
        await stores.until_somebody_waits()
    (written,) = await finish
    assert (written.state, written.seq) == (State.CANCELLED, 4)
    assert history(await stores.row(claimed.id)) == ["submitted", "started", "cancel_requested", "cancelled"]


async def test_an_end_that_waits_for_a_rescue_changes_nothing_after_it(stores):
    claimed = await stores.running()
    async with stores.transaction() as other:
        (rescued,) = await other.upkeep.rescue_jobs(10)
        finish = asyncio.create_task(stores.attempts.finish_jobs([completed(claimed)]))
        await stores.until_somebody_waits()
    assert await finish == []
    assert (rescued.id, rescued.state) == (claimed.id, State.AVAILABLE)
    assert (await stores.row(claimed.id))["state"] == "available"


async def test_an_end_that_waits_for_a_rescue_and_a_new_claim_changes_nothing_after_them(stores):
    claimed = await stores.running()
    async with stores.transaction() as other:
        await other.upkeep.rescue_jobs(10)
        await other.claim("w2")
        finish = asyncio.create_task(stores.attempts.finish_jobs([completed(claimed)]))
        await stores.until_somebody_waits()
    assert await finish == []
    row = await stores.row(claimed.id)
    assert (row["state"], row["worker"], row["fence"]) == ("running", "w2", 2)


async def test_two_ends_of_one_attempt_at_the_same_time_are_one(stores):
    claimed = await stores.running()
    async with stores.transaction() as other:
        await other.attempts.finish_jobs([completed(claimed, "1")])
        second = asyncio.create_task(stores.attempts.finish_jobs([completed(claimed, "2")]))
        await stores.until_somebody_waits()
    assert await second == []
    assert (await stores.row(claimed.id))["result"] == "1"


async def test_two_groups_of_the_same_jobs_in_opposite_order_do_not_lock_each_other_out(stores):
    for _ in range(5):
        await stores.insert(*[new_job() for _ in range(100)])
        jobs = await stores.claim("w")
        group = [completed(job) for job in jobs]
        written = await asyncio.gather(*(stores.attempts.finish_jobs(each) for each in (group, group[::-1], group)))
        assert sorted(row.id for each in written for row in each) == [job.id for job in jobs]


STRANGE = {
    "NUL": "a\0b",
    "lone surrogate": "\ud800",
    "reversed pair": "\udc00\ud800 é",
    "everything": {"\0": ["\udfff", "é", 1e308, 10**40, -0.0, None, {"b": 1, "a": 2}]},
    "duplicate keys": {1: "a", "1": "b"},
    "null": None,
    "quotes": '"{}\\u0000,\\',
}


@pytest.mark.parametrize("value", STRANGE.values(), ids=STRANGE)
async def test_a_result_survives_byte_for_byte(stores, value):
    text = encode_result(value)
    claimed = await stores.running()
    await stores.attempts.finish_jobs([completed(claimed, text)])
    assert (await stores.row(claimed.id))["result"] == text
    job = (await stores.jobs.get_jobs([claimed.id]))[claimed.id]
    assert job.result is None if value is None else bytes(job.result) == text.encode()


@pytest.mark.parametrize("value", STRANGE.values(), ids=STRANGE)
async def test_an_error_survives_byte_for_byte(stores, value):
    record = error_record(message=value)
    claimed = await stores.running()
    await stores.attempts.finish_jobs([ended(claimed, Transition.discard(Reason.ATTEMPTS_EXHAUSTED, record))])
    assert (await stores.row(claimed.id))["errors"] == [record]
    job = (await stores.jobs.get_jobs([claimed.id]))[claimed.id]
    assert [bytes(error) for error in job.errors] == [record.encode()]


async def test_errors_of_earlier_attempts_are_kept(stores):
    claimed = await stores.running()
    for number in (1, 2):
        retry = Transition.retry(0.0, None, error_record(message=f"no {number}"))
        await stores.attempts.reschedule_jobs([ended(claimed, retry)])
        await stores.upkeep.promote_jobs(10)
        (claimed,) = await stores.claim("w")
    await stores.attempts.finish_jobs([ended(claimed, ENDS["discarded"])])
    row = await stores.row(claimed.id)
    assert [json.loads(error)["message"] for error in row["errors"]] == ["no 1", "no 2", "no"]
    assert history(row) == ["submitted", *["started", "retryable", "available"] * 2, "started", "discarded"]


async def test_a_large_result_is_kept(stores):
    text = encode_result("é" * 500_000)
    claimed = await stores.running()
    await stores.attempts.finish_jobs([completed(claimed, text)])
    assert (await stores.row(claimed.id))["result"] == text
