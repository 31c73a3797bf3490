"""From submit to the stored outcome, in one process."""

import asyncio
import contextvars

import msgspec
import pytest

from quarterdeck import Cancel, JobCancelled, JobDiscarded, Quarterdeck, Snooze, UnknownKind
from quarterdeck.domain.errors import InvalidSubmit
from quarterdeck.domain.state import Reason, State
from quarterdeck.engine import attempt as attempt_module
from tests.support.running import running
from tests.support.waiting import eventually

FAST_RETRY = {"backoff": "fixed", "base": 0.01}


def errors_of(job):
    return [msgspec.json.decode(error) for error in job.errors]


async def test_a_job_goes_from_submit_to_a_stored_result(database_url):
    deck = Quarterdeck()

    @deck.handler()
    async def double(number: int) -> int:
        return number * 2

    async with running(database_url, deck):
        handle = await double.submit(number=21)
        assert await handle.result(timeout=30) == 42
        job = await handle.job()
        assert (job.state, job.attempt, job.seq) == (State.COMPLETED, 1, 3)
        assert job.created_at <= job.attempted_at <= job.finalized_at


async def test_a_due_job_is_handed_off_by_its_own_insert(database_url):
    deck = Quarterdeck()
    release = asyncio.Event()

    @deck.handler()
    async def hold() -> None:
        await release.wait()

    async with running(database_url, deck) as runtime:
        handle = await hold.submit()
        job = await handle.job()
        assert (job.state, job.seq, job.worker) == (State.RUNNING, 2, runtime.engine.parts.lease.worker())
        release.set()
        assert await handle.result(timeout=30) is None


async def test_many_submits_at_once_share_commits_and_all_complete(database_url, connection):
    deck = Quarterdeck()

    @deck.handler()
    async def noop(number: int) -> int:
        return number

    async with running(database_url, deck, concurrency=10) as runtime:
        inserts = []
        insert = runtime.engine.parts.submitter._jobs.insert_jobs

        async def counted(jobs, *rest):
            inserts.append(len(jobs))
            return await insert(jobs, *rest)

        runtime.engine.parts.submitter._jobs.insert_jobs = counted
        handles = await asyncio.gather(*(noop.submit(number=number) for number in range(300)))
        assert await asyncio.gather(*(handle.result(timeout=30) for handle in handles)) == list(range(300))
        assert len(inserts) < 10
    assert await connection.fetchval("select count(*) from quarterdeck.job") == 0
    assert await connection.fetchval("select count(*) from quarterdeck.job_history where state = 'completed'") == 300


async def test_a_failing_job_is_retried_and_then_discarded_with_every_error(database_url):
    deck = Quarterdeck()

    @deck.handler(max_attempts=3, retry=FAST_RETRY)
    async def fail(ctx) -> None:
        raise ValueError(f"attempt {ctx.job.attempt}")

    async with running(database_url, deck):
        handle = await fail.submit()
        with pytest.raises(JobDiscarded) as caught:
            await handle.result(timeout=30)
        job = caught.value.job
        assert (job.state, job.state_reason, job.attempt) == (State.DISCARDED, Reason.ATTEMPTS_EXHAUSTED, 3)
        assert [(error["attempt"], error["message"]) for error in errors_of(job)] == [
            (1, "attempt 1"),
            (2, "attempt 2"),
            (3, "attempt 3"),
        ]
        assert "raise ValueError" in errors_of(job)[0]["traceback"]
        assert "engine/attempt.py" not in errors_of(job)[0]["traceback"]


async def test_a_job_waits_for_its_backoff_and_is_promoted_in_time(database_url):
    deck = Quarterdeck()

    @deck.handler(max_attempts=2, retry={"backoff": [0.3]})
    async def second_time(ctx) -> str:
        if ctx.job.attempt == 1:
            raise RuntimeError("not yet")
        return "now"

    async with running(database_url, deck):
        handle = await second_time.submit()
        waiting = await eventually(lambda: _in_state(handle, State.RETRYABLE))
        assert waiting.state_reason is None
        assert await handle.result(timeout=30) == "now"
        job = await handle.job()
        assert (job.attempted_at - waiting.attempted_at).total_seconds() >= 0.3


async def _in_state(handle, state):
    job = await handle.job()
    return job if job.state is state else None


async def test_an_attempt_over_its_timeout_is_stopped_and_counts(database_url):
    deck = Quarterdeck()
    stopped = []

    @deck.handler(timeout=0.2, max_attempts=2, retry=FAST_RETRY)
    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stopped.append(True)
            raise

    async with running(database_url, deck):
        with pytest.raises(JobDiscarded) as caught:
            await (await slow.submit()).result(timeout=30)
    assert caught.value.job.state_reason is Reason.TIMEOUT
    assert [error["type"] for error in errors_of(caught.value.job)] == ["TimeoutError", "TimeoutError"]
    assert stopped == [True, True]


async def test_a_handler_that_will_not_stop_is_abandoned_and_its_slot_comes_back(database_url, monkeypatch):
    monkeypatch.setattr(attempt_module, "ABANDON_AFTER", 0.1)
    deck = Quarterdeck()
    release = asyncio.Event()

    @deck.handler(timeout=0.05, max_attempts=1)
    async def stubborn() -> str:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return "too late"

    async with running(database_url, deck, concurrency=1) as runtime:
        with pytest.raises(JobDiscarded) as caught:
            await (await stubborn.submit()).result(timeout=30)
        assert caught.value.job.state_reason is Reason.TIMEOUT
        assert runtime.engine.parts.executor.abandoned == 1
        assert await (await deck.submit("quarterdeck.echo", {"a": 1})).result(timeout=30) == {"a": 1}
        release.set()
        await eventually(lambda: runtime.engine.parts.executor.abandoned == 0)
        assert (await deck.get(caught.value.job.id)).state is State.DISCARDED


async def test_snooze_gives_the_attempt_back(database_url):
    deck = Quarterdeck()
    runs = []

    @deck.handler(max_attempts=1)
    async def later(ctx) -> object:
        runs.append(ctx.job.attempt)
        return Snooze(0.01) if len(runs) < 3 else "done"

    async with running(database_url, deck):
        handle = await later.submit()
        assert await handle.result(timeout=30) == "done"
        assert runs == [1, 1, 1]
        assert (await handle.job()).attempt == 1


async def test_cancel_returned_by_the_handler_ends_the_job_with_its_words(database_url):
    deck = Quarterdeck()

    @deck.handler()
    async def give_up() -> object:
        return Cancel("nothing to do \0 here")

    async with running(database_url, deck):
        with pytest.raises(JobCancelled) as caught:
            await (await give_up.submit()).result(timeout=30)
        assert caught.value.job.state_reason is None
        assert caught.value.job.state_detail == "nothing to do \N{REPLACEMENT CHARACTER} here"


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class OwnBase(BaseException):
    pass


def _cycle():
    value = []
    value.append(value)
    return value


def _deep():
    value = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (ValueError("\0 \ud800 " + "x" * 5_000_000), "ValueError"),
        (Unspeakable(), "Unspeakable"),
        (OwnBase("base"), "OwnBase"),
        (SystemExit(3), "SystemExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (asyncio.CancelledError(), "CancelledError"),
        (StopIteration(), "RuntimeError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
async def test_whatever_a_handler_raises_fails_the_attempt_and_nothing_else(database_url, raised, kind):
    deck = Quarterdeck()

    @deck.handler(max_attempts=1)
    async def fail() -> None:
        raise raised

    async with running(database_url, deck):
        with pytest.raises(JobDiscarded) as caught:
            await (await fail.submit()).result(timeout=30)
        (error,) = errors_of(caught.value.job)
        assert error["type"] == kind
        assert len(error["message"]) <= 4096
        assert await (await deck.submit("quarterdeck.echo", {})).result(timeout=30) == {}


@pytest.mark.parametrize(
    "value",
    [
        object(),
        float("nan"),
        float("inf"),
        b"bytes",
        {1, 2},
        _cycle(),
        _deep(),
        "x" * 2_000_000,
        10**5000,
        (i for i in "a"),
    ],
    ids=["object", "nan", "inf", "bytes", "set", "cycle", "deep", "2 MB", "huge int", "generator"],
)
async def test_a_result_that_json_cannot_hold_fails_the_attempt_and_the_worker_lives(database_url, value):
    deck = Quarterdeck()

    @deck.handler(max_attempts=1)
    async def odd() -> object:
        return value

    async with running(database_url, deck):
        with pytest.raises(JobDiscarded) as caught:
            await (await odd.submit()).result(timeout=30)
        (error,) = errors_of(caught.value.job)
        assert error["type"] == "ResultError"
        assert await (await deck.submit("quarterdeck.echo", {})).result(timeout=30) == {}


async def test_any_text_survives_as_a_result(database_url):
    deck = Quarterdeck()
    value = {"nul": "\0", "surrogate": "\ud800", "plain": "ü€😀", "tuple": [1, 2.5, None, True]}

    @deck.handler()
    async def text() -> object:
        return value

    async with running(database_url, deck):
        assert await (await text.submit()).result(timeout=30) == value


async def test_context_variables_do_not_leak_from_job_to_job(database_url):
    deck = Quarterdeck()
    mark = contextvars.ContextVar("mark", default="clean")

    @deck.handler()
    async def stain() -> str:
        before = mark.get()
        mark.set("dirty")
        return before

    async with running(database_url, deck, concurrency=1):
        assert [await (await stain.submit()).result(timeout=30) for _ in range(3)] == ["clean"] * 3


async def test_a_handler_that_cancels_its_own_task_only_fails_itself(database_url):
    deck = Quarterdeck()

    @deck.handler(max_attempts=1)
    async def suicidal() -> None:
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    async with running(database_url, deck):
        with pytest.raises(JobDiscarded):
            await (await suicidal.submit()).result(timeout=30)
        assert await (await deck.submit("quarterdeck.echo", {})).result(timeout=30) == {}


async def test_arguments_are_checked_at_submit_and_converted_for_the_handler(database_url):
    deck = Quarterdeck()

    @deck.handler()
    async def typed(count: int, names: list[str]) -> object:
        return [type(count).__name__, names]

    async with running(database_url, deck):
        assert await (await typed.submit(count=1, names=["a"])).result(timeout=30) == ["int", ["a"]]
        for args, pointer in [
            ({"count": "1", "names": []}, "/args/count"),
            ({"count": 1}, "/args/names"),
            ({"count": 1, "names": [], "x": 1}, "/args/x"),
        ]:
            with pytest.raises(InvalidSubmit) as caught:
                await deck.submit("typed", args)
            assert [error.pointer for error in caught.value.errors] == [pointer]
        with pytest.raises(UnknownKind):
            await deck.submit("nobody_knows_this", {})


async def test_arguments_that_only_the_worker_can_refuse_end_the_job_as_rejected(database_url, connection):
    deck = Quarterdeck()

    @deck.handler()
    async def typed(count: int) -> int:
        return count

    async with running(database_url, deck, role="web") as web:
        handle = await typed.submit(count=1)
        await connection.execute('update quarterdeck.job set args = \'{"count": "one"}\' where id = $1', handle.id)
        assert (await web.engine.jobs.get(handle.id)).state is State.AVAILABLE
        async with running(database_url, _copy_of(typed)):
            with pytest.raises(JobDiscarded) as caught:
                await handle.result(timeout=30)
    job = caught.value.job
    assert (job.state_reason, job.attempt) == (Reason.REJECTED, 1)
    assert "/args/count" in job.state_detail


def _copy_of(function):
    deck = Quarterdeck()
    deck.handler(function.kind)(function.__wrapped__)
    return deck


async def test_a_handler_submits_a_child_with_its_job_as_parent(database_url, connection):
    deck = Quarterdeck()

    @deck.handler()
    async def parent(ctx) -> str:
        return str((await ctx.submit("quarterdeck.echo", {"from": "parent"}, priority=1)).id)

    async with running(database_url, deck):
        handle = await parent.submit()
        child = await handle.result(timeout=30)
        await eventually(lambda: _ended(deck, child))
    assert await connection.fetchval("select parent_id from quarterdeck.job_history where id = $1", child) == handle.id


async def _ended(deck, job_id):
    return (await deck.get(job_id)).terminal


async def test_gather_returns_results_in_order_and_exceptions_where_asked(database_url):
    deck = Quarterdeck()

    @deck.handler(max_attempts=1)
    async def invert(number: float) -> float:
        return 1 / number

    async with running(database_url, deck):
        assert await deck.gather(invert.submit(number=2), invert.submit(number=4)) == [0.5, 0.25]
        results = await deck.gather(invert.submit(number=0), invert.submit(number=1), return_exceptions=True)
        assert isinstance(results[0], JobDiscarded)
        assert results[1] == 1
