"""What the engine counts where not everything goes well: late ends, lost replies, stops, abandoned handlers."""

import asyncio

import asyncpg
import pytest

from quarterdeck import Quarterdeck, Snooze
from quarterdeck.engine import attempt, exposition
from quarterdeck.store.attempts import AttemptStore
from tests.contract.test_metrics import Page
from tests.support.running import running, worker_of
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Every answer is made anew."""
    monkeypatch.setattr(exposition, "TTL", 0.0)
    monkeypatch.setattr(exposition, "REST", 0.0)


async def page_of(runtime) -> Page:
    return Page((await runtime.metrics_text("text")).decode())


async def shown(runtime, name, /, **labels):
    """Waits until a metric is above zero, and returns it."""

    async def above_zero():
        return (await page_of(runtime))(name, **labels)

    return await eventually(above_zero, within=15)


@pytest.fixture
def release():
    return asyncio.Event()


@pytest.fixture
def deck(release):
    deck = Quarterdeck()

    @deck.handler(max_attempts=2, retry={"backoff": "fixed", "base": 0.01})
    async def hold(ctx) -> str:
        await release.wait()
        return "let go"

    @deck.handler(max_attempts=2, retry={"backoff": "fixed", "base": 0.01})
    async def second_time(ctx) -> str:
        if ctx.job.attempt == 1:
            raise RuntimeError
        return "done"

    @deck.handler()
    async def sleepy(ctx) -> Snooze | str:
        return Snooze(3600)

    @deck.handler(timeout=0.05)
    async def stubborn(ctx) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    return deck


async def test_an_attempt_that_is_tried_again_is_counted_twice(database_url, deck):
    async with running(database_url, deck) as runtime:
        handle = await deck.submit("second_time")
        await handle.result(timeout=30)
        page = await page_of(runtime)
        assert page("jobs_started_total") == 2
        assert page("jobs_finished_total", outcome="retryable") == page("jobs_finished_total", outcome="completed") == 1
        assert page("jobs_promoted_total") == 1
        assert page("job_total_seconds_count") == 1
        assert page("statement_rows_count", statement="reschedule_jobs") == 1


async def test_a_snooze_and_an_interruption_are_outcomes(database_url, deck):
    async with running(database_url, deck) as runtime:
        await deck.submit("sleepy")
        assert await shown(runtime, "jobs_finished_total", outcome="snoozed") == 1
        await deck.submit("hold")
        await eventually(lambda: runtime.engine.parts.executor.running)
        await runtime.stop(grace=0)
        assert await shown(runtime, "jobs_finished_total", outcome="interrupted", kind="hold") == 1


async def test_a_late_end_is_counted_and_is_no_outcome(database_url, connection, deck, release):
    async with running(database_url, deck) as runtime:
        await deck.submit("hold")
        await eventually(lambda: runtime.engine.parts.executor.running)
        await connection.execute("update quarterdeck.job set fence = fence + 1, worker = 'other'")
        release.set()
        assert await shown(runtime, "ends_refused_total") == 1
        assert (await page_of(runtime))("jobs_finished_total") == 0


async def test_an_end_whose_reply_was_lost_is_counted_once(database_url, deck, release, monkeypatch):
    finish, tries = AttemptStore.finish_jobs, []

    async def finish_jobs(self, group):
        written = await finish(self, group)
        tries.append(group)
        if len(tries) == 1:
            raise asyncpg.ConnectionDoesNotExistError("the reply was lost")
        return written

    monkeypatch.setattr(AttemptStore, "finish_jobs", finish_jobs)
    release.set()
    async with running(database_url, deck) as runtime:
        handle = await deck.submit("hold")
        await handle.result(timeout=30)
        await eventually(lambda: len(runtime.engine.parts.holdings) == 0)
        page = await page_of(runtime)
        assert len(tries) == 2
        assert page("jobs_finished_total", outcome="completed", kind="hold") == 1
        assert page("database_errors_total", **{"class": "08"}) == 1
        assert page("ends_refused_total") == 0


async def test_a_cancel_that_came_between_is_the_outcome(database_url, connection, deck, release):
    async with running(database_url, deck) as runtime:
        handle = await deck.submit("second_time")
        await handle.result(timeout=30)
        await deck.submit("hold")
        await eventually(lambda: runtime.engine.parts.executor.running)
        await runtime.engine.jobs.cancel(await connection.fetchval("select id from quarterdeck.job"))
        assert await shown(runtime, "jobs_finished_total", outcome="cancelled", kind="hold") == 1


async def test_a_handler_that_does_not_stop_is_counted_and_shown_until_it_does(
    database_url, deck, release, monkeypatch
):
    monkeypatch.setattr(attempt, "ABANDON_AFTER", 0.05)
    async with running(database_url, deck) as runtime:
        await deck.submit("stubborn")
        assert await shown(runtime, "handlers_abandoned_total", kind="stubborn") >= 1
        assert await shown(runtime, "handlers_stuck") >= 1
        release.set()

        async def gone():
            return (await page_of(runtime))("handlers_stuck") == 0

        await eventually(gone)


async def test_jobs_of_a_lost_worker_are_counted_as_rescued(database_url, connection, deck, release):
    release.set()
    async with running(database_url, deck, lease=3.0) as runtime:
        await connection.execute(
            """insert into quarterdeck.job (id, queue, kind, state, args, worker, fence, attempt, attempted_at)
            select quarterdeck.uuid_floor(now()), 'orphans', 'hold', 'running', '{}', 'dead', 1, 1, now()"""
        )
        assert await shown(runtime, "jobs_rescued_total", queue="orphans") == 1


async def test_a_claim_whose_reply_was_lost_is_counted_as_reconciled(database_url, connection, deck, release):
    release.set()
    async with running(database_url, deck, lease=3.0) as runtime:
        await connection.execute(
            """insert into quarterdeck.job (id, queue, kind, state, args, worker, fence, attempt, attempted_at)
            select quarterdeck.uuid_floor(now()), 'unheld', 'hold', 'running', '{}', $1, 1, 1, now()""",
            worker_of(runtime),
        )
        assert await shown(runtime, "jobs_reconciled_total", queue="unheld") == 1


async def test_beats_that_fail_are_counted(database_url, connection, deck, monkeypatch):
    async with running(database_url, deck, lease=3.0) as runtime:
        await connection.execute(
            """select pg_terminate_backend(pid) from pg_stat_activity
            where application_name = 'quarterdeck-heartbeat' and datname = current_database()"""
        )
        assert await shown(runtime, "beats_failed_total") >= 1


async def test_two_services_in_one_process_count_apart(database_url, deck, release):
    release.set()
    async with running(database_url, deck) as one, running(database_url, role="web") as other:
        handle = await one.engine.jobs.submit_by_name("hold")
        await handle.result(timeout=30)
        assert (await page_of(one))("jobs_finished_total") == 1
        assert (await page_of(other))("jobs_finished_total") == 0
        assert (await page_of(other))("slots") == 0
