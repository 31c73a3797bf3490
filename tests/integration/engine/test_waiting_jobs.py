"""Delay, priority, expiry, queues, kinds and cancel."""

import asyncio

import pytest

from quarterdeck import JobCancelled, JobDiscarded, JobNotFound, Quarterdeck, Snooze
from quarterdeck.domain.state import Reason, State
from quarterdeck.engine import tick
from tests.support.running import running
from tests.support.waiting import eventually


def recording_deck():
    deck = Quarterdeck()
    order = []

    @deck.handler(retry={"backoff": "fixed", "base": 0.01})
    async def record(name: str) -> None:
        order.append(name)

    return deck, order


async def test_a_delayed_job_starts_when_it_is_due_and_not_before(database_url, monkeypatch):
    monkeypatch.setattr(tick, "INTERVAL", (600, 600))  # whose looks it does not wait for
    deck, _ = recording_deck()
    async with running(database_url, deck):
        handle = await deck.submit("record", {"name": "later"}, delay=1.0)
        job = await handle.job()
        assert (job.state, job.seq) == (State.SCHEDULED, 1)
        await handle.result(timeout=30)
        job = await handle.job()
        assert job.attempted_at >= job.run_at
        # submitted, available, started, completed
        assert job.seq == 4


async def test_the_most_urgent_job_runs_first_then_the_earliest(database_url):
    deck, order = recording_deck()
    async with running(database_url, deck, role="web") as web:
        for name, priority in [("c", 5), ("d", 5), ("e", 9), ("a", 0), ("b", 1)]:
            await deck.submit("record", {"name": name}, priority=priority)
        worker_deck, order = recording_deck()
        async with running(database_url, worker_deck, concurrency=1):
            await eventually(lambda: len(order) == 5)
        assert order == ["a", "b", "c", "d", "e"]
        assert (await web.engine.readiness())["engine"] == "ok"


async def test_a_submit_does_not_overtake_jobs_that_wait_in_its_queue(database_url, connection):
    deck = Quarterdeck()
    release = asyncio.Event()
    order = []

    @deck.handler()
    async def hold(name: str) -> None:
        order.append(name)
        await release.wait()

    async with running(database_url, deck, concurrency=1):
        first = await deck.submit("hold", {"name": "first"})
        second = await deck.submit("hold", {"name": "second"})
        third = await deck.submit("hold", {"name": "third"})
        assert [(await handle.job()).state for handle in (first, second, third)] == [
            State.RUNNING,
            *[State.AVAILABLE] * 2,
        ]
        release.set()
        for handle in (first, second, third):
            await handle.result(timeout=30)
    assert order == ["first", "second", "third"]


async def test_a_job_not_started_in_time_is_discarded_as_expired(database_url):
    deck, order = recording_deck()
    async with running(database_url, deck, queues="other"):
        handle = await deck.submit("record", {"name": "never"}, ttl=0.05)
        with pytest.raises(JobDiscarded) as caught:
            await handle.result(timeout=30)
    assert caught.value.job.state_reason is Reason.EXPIRED
    assert caught.value.job.expires_at is not None
    assert order == []


async def test_ttl_counts_from_the_due_time_and_spares_jobs_that_have_started(database_url):
    deck = Quarterdeck()

    @deck.handler(max_attempts=2, retry={"backoff": "fixed", "base": 1.6}, ttl=1.5)
    async def second_time(ctx) -> str:
        if ctx.job.attempt == 1:
            raise RuntimeError
        return "done"

    async with running(database_url, deck):
        assert await (await second_time.options(delay=1.6).submit()).result(timeout=30) == "done"


async def test_a_process_serves_its_queues_only_each_within_its_limit(database_url):
    deck = Quarterdeck()
    running_now, most = 0, 0
    release = asyncio.Event()

    @deck.handler()
    async def count() -> None:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        await release.wait()
        running_now -= 1

    async with running(database_url, deck, queues="narrow=2,tenant-*", concurrency=10):
        handles = [await deck.submit("count", queue="narrow") for _ in range(5)]
        elsewhere = await deck.submit("count", queue="elsewhere")
        await eventually(lambda: running_now == 2)
        tenant = await deck.submit("count", queue="tenant-7")
        await eventually(lambda: running_now == 3)
        assert (await elsewhere.job()).state is State.AVAILABLE
        release.set()
        for handle in (*handles, tenant):
            await handle.result(timeout=30)
        assert most == 3
        assert (await elsewhere.job()).state is State.AVAILABLE


async def test_kinds_of_other_processes_are_left_alone_and_block_nobody(database_url, connection):
    deck, order = recording_deck()
    async with running(database_url, deck):
        pass  # the kind is known from now on
    plain = Quarterdeck()
    async with running(database_url, plain, concurrency=2):
        foreign = [await plain.submit("record", {"name": "not here"}) for _ in range(20)]
        assert await (await plain.submit("quarterdeck.echo", {"a": 1})).result(timeout=30) == {"a": 1}
        jobs = [await handle.job() for handle in foreign]
        assert {(job.state, job.attempt) for job in jobs} == {(State.AVAILABLE, 0)}
    async with running(database_url, deck):
        await eventually(lambda: len(order) == 20)


async def test_a_waiting_job_is_cancelled_at_once(database_url):
    deck, order = recording_deck()
    async with running(database_url, deck) as runtime:
        handle = await deck.submit("record", {"name": "never"}, delay="1h")
        job = await handle.cancel()
        assert (job.state, job.state_reason, job.seq) == (State.CANCELLED, None, 2)
        assert (await handle.cancel()).seq == 2
        with pytest.raises(JobCancelled):
            await handle.result(timeout=30)
        with pytest.raises(JobNotFound):
            await runtime.engine.jobs.cancel(handle.id, tenant="somebody-else")
    assert order == []


async def test_a_running_job_is_asked_to_stop_and_ends_cancelled(database_url):
    deck = Quarterdeck()
    saw = []

    @deck.handler()
    async def wait_for_it(ctx) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            saw.append(ctx.cancelled)

    async with running(database_url, deck):
        handle = await wait_for_it.submit()
        asked = await handle.cancel()
        assert (asked.state, asked.state_reason) == (State.RUNNING, Reason.CANCEL_REQUESTED)
        with pytest.raises(JobCancelled) as caught:
            await handle.result(timeout=30)
        assert caught.value.job.state_reason is Reason.CANCEL_REQUESTED
    assert saw == [True]


async def test_a_job_that_runs_elsewhere_is_cancelled_through_the_database(database_url):
    deck = Quarterdeck()
    started = asyncio.Event()

    @deck.handler()
    async def wait_for_it() -> None:
        started.set()
        await asyncio.sleep(60)

    async with running(database_url, deck), running(database_url, role="web") as web:
        handle = await wait_for_it.submit()
        await started.wait()
        asked = await web.engine.jobs.cancel(handle.id)
        assert asked.state is State.RUNNING
        ended = await web.engine.jobs.wait(handle.id, 10)
        assert (ended.state, ended.state_reason) == (State.CANCELLED, Reason.CANCEL_REQUESTED)


async def test_a_handler_that_still_returns_completes_in_spite_of_the_cancel(database_url):
    deck = Quarterdeck()

    @deck.handler()
    async def finishes_anyway() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "finished"
        return "never"

    async with running(database_url, deck):
        handle = await finishes_anyway.submit()
        await handle.cancel()
        assert await handle.result(timeout=30) == "finished"
        assert (await handle.job()).state is State.COMPLETED


@pytest.mark.parametrize("ending", ["raises", "snoozes"])
async def test_any_other_end_after_a_cancel_is_cancelled(database_url, connection, ending):
    deck = Quarterdeck()
    go = asyncio.Event()

    @deck.handler(max_attempts=5)
    async def ends() -> object:
        await go.wait()
        if ending == "raises":
            raise ValueError("no")
        return Snooze(60)

    async with running(database_url, deck) as runtime:
        handle = await ends.submit()
        # A request that this process has not heard of yet: only the row knows.
        runtime.engine.parts.executor.cancel = lambda _: True
        runtime.engine.parts.tick._on_cancel = lambda _: None
        assert (await handle.cancel()).state_reason is Reason.CANCEL_REQUESTED
        go.set()
        with pytest.raises(JobCancelled) as caught:
            await handle.result(timeout=30)
        assert caught.value.job.state_reason is Reason.CANCEL_REQUESTED


async def test_a_claimed_job_that_was_not_begun_is_cancelled_without_running(database_url):
    deck = Quarterdeck()
    release = asyncio.Event()
    ran = []

    @deck.handler()
    async def hold(name: str) -> None:
        ran.append(name)
        await release.wait()

    async with running(database_url, deck, concurrency=1) as runtime:
        executor = runtime.engine.parts.executor
        executor._rate = 1000.0  # as if jobs were short: claim ahead
        executor._measure = lambda: None
        first = await deck.submit("hold", {"name": "first"})
        second = await deck.submit("hold", {"name": "second"})
        await eventually(lambda: _running(second))
        await second.cancel()
        release.set()
        await first.result(timeout=30)
        with pytest.raises(JobCancelled):
            await second.result(timeout=30)
    assert ran == ["first"]


async def _running(handle):
    return (await handle.job()).state is State.RUNNING
