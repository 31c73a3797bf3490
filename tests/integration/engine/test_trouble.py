"""Stops, lost leases, lost replies, a database that goes away: nothing is lost, nothing is recorded twice."""

import asyncio

import asyncpg
import pytest

from quarterdeck import Quarterdeck, Unavailable
from quarterdeck.domain.outcome import Transition
from quarterdeck.domain.state import Reason, State
from quarterdeck.domain.submission import parse
from quarterdeck.store.attempts import AttemptStore, Ended
from quarterdeck.store.jobs import JobStore
from tests.support.factories import new_job, open_stores
from tests.support.running import running, worker_of
from tests.support.waiting import eventually


def holding_deck():
    deck = Quarterdeck()
    deck.resources["release"] = asyncio.Event()
    deck.resources["runs"] = runs = []

    @deck.handler(max_attempts=2)
    async def hold(ctx, name: str = "") -> str:
        runs.append(name)
        await ctx.resources["release"].wait()
        return name

    return deck, runs


async def test_a_stop_gives_interrupted_jobs_back_with_their_attempt(database_url):
    deck, runs = holding_deck()
    async with running(database_url, deck) as runtime:
        handle = await deck.submit("hold", {"name": "a"})
        await eventually(lambda: runs == ["a"])
        await runtime.stop(grace=0)
        async with running(database_url, role="web") as web:
            job = await web.engine.jobs.get(handle.id)
            assert (job.state, job.state_reason, job.attempt, job.errors) == (
                State.AVAILABLE,
                Reason.INTERRUPTED,
                0,
                [],
            )
    deck.resources["release"].set()
    async with running(database_url, deck) as again:
        job = await again.engine.jobs.wait(handle.id, 10)
        assert (job.state, job.attempt) == (State.COMPLETED, 1)
    assert runs == ["a", "a"]


async def test_a_stop_waits_for_running_jobs_within_the_grace_period(database_url):
    deck, runs = holding_deck()
    async with running(database_url, deck) as runtime:
        handle = await deck.submit("hold", {"name": "a"})
        await eventually(lambda: runs == ["a"])
        stopping = asyncio.create_task(runtime.stop(grace=30))
        await eventually(lambda: runtime.engine.draining)
        deck.resources["release"].set()
        await stopping
        async with running(database_url, role="web") as web:
            assert (await web.engine.jobs.get(handle.id)).state is State.COMPLETED
    assert runs == ["a"]


async def test_a_second_signal_ends_the_grace_period(database_url):
    deck, runs = holding_deck()
    async with running(database_url, deck) as runtime:
        await deck.submit("hold", {"name": "a"})
        await eventually(lambda: runs == ["a"])
        stopping = asyncio.create_task(runtime.stop(grace=3600))
        runtime.hurry()
        async with asyncio.timeout(5):
            await stopping


async def test_a_drain_gives_back_what_was_claimed_and_not_begun(database_url):
    deck, runs = holding_deck()
    async with running(database_url, deck, concurrency=1) as runtime:
        executor = runtime.engine.parts.executor
        executor._rate, executor._measure = 1000.0, lambda: None
        first = await deck.submit("hold", {"name": "first"})
        others = [await deck.submit("hold", {"name": "other"}) for _ in range(5)]
        await eventually(lambda: executor._ready.qsize() == 5)
        runtime.drain()

        async def given_back():
            jobs = [await handle.job() for handle in others]
            return all((job.state, job.attempt, job.attempted_at) == (State.AVAILABLE, 0, None) for job in jobs)

        await eventually(given_back)  # while the first one runs, which it does until it is released
        deck.resources["release"].set()
        await first.result(timeout=30)
    assert runs == ["first"]


async def test_a_worker_whose_lease_is_gone_stops_its_handlers_and_goes_on_under_a_new_id(database_url, connection):
    deck, runs = holding_deck()
    async with running(database_url, deck, lease=3.0) as runtime:
        handle = await deck.submit("hold", {"name": "a"})
        await eventually(lambda: runs == ["a"])
        before = worker_of(runtime)
        await connection.execute("delete from quarterdeck.worker")
        await eventually(lambda: worker_of(runtime) not in (None, before))
        deck.resources["release"].set()
        assert await handle.result(timeout=30) == "a"
        assert (await handle.job()).attempt == 1
    assert runs == ["a", "a"]
    starts = await connection.fetchval("select timeline from quarterdeck.job_history where id = $1", handle.id)
    assert starts.count('"completed"') == 1


async def test_a_late_end_under_a_lost_fence_changes_nothing(database_url, connection):
    deck, runs = holding_deck()
    async with running(database_url, deck) as runtime:
        handle = await deck.submit("hold", {"name": "a"})
        await eventually(lambda: runs == ["a"])
        # Somebody else rescued the job and runs it now.
        await connection.execute(
            "update quarterdeck.job set fence = fence + 1, worker = 'other' where id = $1", handle.id
        )
        deck.resources["release"].set()
        await eventually(lambda: len(runtime.engine.parts.holdings) == 0)
        job = await handle.job()
        assert (job.state, job.worker, job.result) == (State.RUNNING, "other", None)


async def test_jobs_of_a_dead_worker_are_rescued_with_their_attempt(database_url, connection):
    deck, runs = holding_deck()
    deck.resources["release"].set()
    async with running(database_url, role="web", lease=3.0) as web:
        pass
    async with running(database_url, deck, role="web") as web:
        handle = await deck.submit("hold", {"name": "a"})
        await connection.execute(
            """update quarterdeck.job
            set state = 'running', worker = 'dead', fence = 1, attempt = 1, attempted_at = now()"""
        )
        await connection.execute(
            """insert into quarterdeck.worker (id, host, pid, role, slots, version, lease_until)
            values ('dead', 'h', 1, 'all', 1, '0', now() - interval '1 second')"""
        )
        await eventually(lambda: _crashed(web, handle), within=20)
        worker_deck, runs = holding_deck()
        worker_deck.resources["release"].set()
        async with running(database_url, worker_deck):
            assert await handle.result(timeout=30) == "a"
        job = await handle.job()
        assert (job.attempt, job.crashes, runs) == (1, 1, ["a"])
    assert await connection.fetchval("select count(*) from quarterdeck.worker where id = 'dead'") == 0


async def _crashed(runtime, handle):
    job = await runtime.engine.jobs.get(handle.id)
    return job.state is State.AVAILABLE and job.state_reason is Reason.CRASHED


async def test_a_claim_whose_reply_was_lost_is_reconciled_and_runs(database_url, connection, monkeypatch):
    claim = AttemptStore.claim_jobs
    lost = []

    async def lossy(self, *arguments):
        jobs = await claim(self, *arguments)
        if jobs and not lost:
            lost.extend(jobs)
            raise asyncpg.ConnectionDoesNotExistError("the reply was lost")
        return jobs

    monkeypatch.setattr(AttemptStore, "claim_jobs", lossy)
    deck, runs = holding_deck()
    deck.resources["release"].set()
    async with running(database_url, role="web") as web:
        async with running(database_url, deck):
            pass  # makes the kind known
        handle = await web.engine.jobs.submit_by_name("hold", {"name": "a"})
    async with running(database_url, deck, lease=3.0) as runtime:
        job = await runtime.engine.jobs.wait(handle.id, 15)
        assert (job.state, job.attempt, job.crashes) == (State.COMPLETED, 1, 0)
    assert len(lost) == 1
    assert runs == ["a"]


@pytest.mark.parametrize("method", ["finish_jobs", "reschedule_jobs"])
async def test_an_end_whose_reply_was_lost_is_recorded_once(database_url, connection, monkeypatch, method):
    write = getattr(AttemptStore, method)
    tries = []

    async def lossy(self, group):
        written = await write(self, group)
        tries.append(len(written))
        if len(tries) == 1:
            raise asyncpg.ConnectionDoesNotExistError("the reply was lost")
        return written

    monkeypatch.setattr(AttemptStore, method, lossy)
    deck = Quarterdeck()
    runs = []

    @deck.handler(max_attempts=2, retry={"backoff": "fixed", "base": 0.01})
    async def second_time(ctx) -> str:
        runs.append(ctx.job.attempt)
        if method == "reschedule_jobs" and ctx.job.attempt == 1:
            raise RuntimeError
        return "done"

    async with running(database_url, deck) as runtime:
        handle = await second_time.submit()
        assert await handle.result(timeout=30) == "done"
        await eventually(lambda: len(runtime.engine.parts.holdings) == 0)
    assert tries[:2] == [1, 0]
    assert runs == ([1] if method == "finish_jobs" else [1, 2])
    assert (await connection.fetchval("select count(*) from quarterdeck.job_history")) == 1


@pytest.mark.parametrize("stored", [True, False])
async def test_a_submit_whose_reply_was_lost_is_stored_once_and_runs_once(
    database_url, connection, monkeypatch, stored
):
    insert = JobStore.insert_jobs
    tries = []

    async def lossy(self, *arguments):
        tries.append(1)
        if len(tries) == 1 and not stored:
            raise ConnectionResetError("cut before it was sent")
        inserted = await insert(self, *arguments)
        if len(tries) == 1:
            raise asyncpg.ConnectionDoesNotExistError("the reply was lost")
        return inserted

    monkeypatch.setattr(JobStore, "insert_jobs", lossy)
    deck, runs = holding_deck()
    deck.resources["release"].set()
    async with running(database_url, deck):
        assert await (await deck.submit("hold", {"name": "a"})).result(timeout=30) == "a"
    assert runs == ["a"]
    assert len(tries) == (1 if stored else 2)
    assert await connection.fetchval("select count(*) from quarterdeck.job_history") == 1


async def test_a_job_that_ended_before_its_insert_was_repeated_does_not_run_again(
    database_url, connection, monkeypatch
):
    insert = JobStore.insert_jobs
    tries = []

    async def lossy(self, jobs, *rest):
        tries.append(1)
        inserted = await insert(self, jobs, *rest)
        if len(tries) == 1:  # somebody else claims it and finishes it, before the reply is found to be lost
            await connection.execute(
                "update quarterdeck.job set state = 'running', worker = 'other', fence = 1, attempt = 1 where id = $1",
                jobs[0].id,
            )
            attempts = runtime.engine.parts.attempts
            await attempts.finish_jobs([Ended(jobs[0].id, 1, Transition.complete('"other"'))])
            raise asyncpg.ConnectionDoesNotExistError("the reply was lost")
        return inserted

    monkeypatch.setattr(JobStore, "insert_jobs", lossy)
    deck, runs = holding_deck()
    async with running(database_url, deck, queues="nothing-here") as runtime:
        handle = await deck.submit("hold", {"name": "a"})
        assert await handle.result(timeout=30) == "other"
    assert (runs, len(tries)) == ([], 1)
    assert await connection.fetchval("select count(*) from quarterdeck.job") == 0


@pytest.mark.parametrize("unique_key", [None, "k"])
async def test_a_job_that_was_inserted_once_more_after_its_end_keeps_its_first_outcome(
    database_url, connection, unique_key
):
    deck = Quarterdeck()
    runs = []

    @deck.handler()
    async def count() -> int:
        runs.append(1)
        return len(runs)

    async def nothing_is_left() -> bool:
        return await connection.fetchval("select count(*) from quarterdeck.job") == 0

    async with open_stores(database_url) as stores, running(database_url, deck) as runtime:
        job = new_job(kind="count", queue="default", unique_key=unique_key)
        for number in (1, 2):
            await stores.insert(job)
            await eventually(lambda number=number: len(runs) == number)
            await eventually(nothing_is_left)
        kept = await runtime.engine.jobs.get(job.id)
        assert (kept.state, bytes(kept.result), kept.seq) == (State.COMPLETED, b"1", 3)
        assert await connection.fetchval("select count(*) from quarterdeck.unique_key") == 0
        assert await (await deck.submit("count")).result(10) == 3
        assert not runtime.failed.is_set()


async def expire(stores, _):
    await stores.execute("update quarterdeck.job set expires_at = now()")
    await stores.upkeep.expire_jobs(10)


async def cancel(stores, job_id):
    await stores.jobs.cancel_job(job_id, "default")


async def rescue(stores, _):
    await stores.claim("nobody")
    await stores.execute("update quarterdeck.job set crashes = 2")
    await stores.upkeep.rescue_jobs(10)


@pytest.mark.parametrize("end", [expire, cancel, rescue])
async def test_other_ends_leave_the_first_outcome_alone_too(database_url, end):
    async with open_stores(database_url) as stores:
        job = await stores.running()
        await stores.finish(job)
        first = await stores.row(job.id)
        await stores.insert(new_job(id=job.id))
        await end(stores, job.id)
        assert await stores.row(job.id) == first


async def test_one_job_the_database_refuses_does_not_hurt_its_group(database_url):
    deck, _ = holding_deck()
    deck.resources["release"].set()
    async with running(database_url, deck) as runtime:
        submitter = runtime.engine.parts.submitter
        good = [await runtime.engine.jobs.check(_body(name=str(index))) for index in range(4)]
        bad = await runtime.engine.jobs.check(_body(name="bad"))
        bad.args["name"] = "\0"
        answers = await asyncio.gather(
            *(submitter.insert(job) for job in [good[0], good[1], bad, good[2], good[3]]), return_exceptions=True
        )
        assert [type(answer).__name__ for answer in answers] == [
            "Submitted",
            "Submitted",
            "InvalidSubmit",
            "Submitted",
            "Submitted",
        ]
        for job in good:
            assert (await runtime.engine.jobs.wait(job.id, 10)).state is State.COMPLETED


def _body(**args):
    return parse({"kind": "hold", "args": args})


async def test_killed_backends_cost_nothing_but_time(database_url, server_dsn):
    deck = Quarterdeck()
    done = []

    @deck.handler()
    async def work(number: int) -> None:
        await asyncio.sleep(0.005)
        done.append(number)

    killer = await asyncpg.connect(server_dsn)
    name = database_url.rsplit("/", 1)[-1].split("?")[0]
    async with running(database_url, deck, concurrency=5):
        submits = []
        for number in range(100):
            submits.append(asyncio.create_task(_persistent(deck, number)))
            if number % 20 == 10:
                await killer.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1"
                    " and application_name like 'quarterdeck-%'",
                    name,
                )
            await asyncio.sleep(0.01)
        for handle in await asyncio.gather(*submits):
            await _result(handle)
    await killer.close()
    assert set(done) == set(range(100))


async def _persistent(deck, number):
    while True:
        try:
            return await deck.submit("work", {"number": number})
        except Unavailable:
            await asyncio.sleep(0.05)


async def _result(handle):
    while True:
        try:
            return await handle.result(timeout=30)
        except Unavailable:
            await asyncio.sleep(0.05)


async def test_an_idle_process_runs_fewer_than_two_statements_a_second(database_url, connection):
    # Before it runs: a session tells of its statements late, but at its end at the latest.
    async with open_stores(database_url) as stores:
        await stores.insert(*(new_job(queue=f"queue-{number}", delay=3600.0) for number in range(50)))
    async with running(database_url) as runtime:
        loop = asyncio.get_running_loop()
        ticks = []
        look = runtime.engine.parts.upkeep.tick

        async def counted(worker):
            ticks.append(loop.time())
            return await look(worker)

        runtime.engine.parts.upkeep.tick = counted

        async def rate(until) -> float:
            before, since = await _statements(connection), loop.time()
            await eventually(lambda: len(ticks) >= until, within=20)
            # Every statement of the service is a transaction of its own. Counting took two, and every one of the three
            # periodic statements may fall on both edges of the window.
            return (await _statements(connection) - before - 2 - 3) / (loop.time() - since)

        await eventually(lambda: len(ticks) >= 2, within=10)
        # What came before is not always told in time, and a new connection asks for types: a later window has neither.
        rates = [await rate(len(ticks) + 6)]
        while rates[-1] >= 2 and len(rates) < 3:
            rates.append(await rate(len(ticks) + 6))
        assert rates[-1] < 2, rates


async def _statements(connection):
    await connection.execute("select pg_stat_force_next_flush()")
    return await connection.fetchval(
        "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()"
    )


async def test_a_loop_that_dies_is_reported_at_once(database_url, monkeypatch):
    deck = Quarterdeck()
    async with running(database_url, deck) as runtime:

        async def broken(*_):
            raise ZeroDivisionError("a bug")

        runtime.engine.parts.upkeep.tick = broken
        async with asyncio.timeout(5):
            await runtime.failed.wait()
        assert isinstance(runtime.failure, ZeroDivisionError)


async def test_a_missing_partition_is_made_when_an_end_meets_it(database_url, connection):
    deck, runs = holding_deck()
    async with running(database_url, deck) as runtime:
        handle = await deck.submit("hold", {"name": "a"})
        await eventually(lambda: runs == ["a"])
        for table in ("job_history", "job_event"):
            name = await connection.fetchval(
                "select format('%s_%s', $1::text, to_char(now() at time zone 'UTC', 'YYYYMMDD'))", table
            )
            await connection.execute(f"drop table quarterdeck.{name}")
        deck.resources["release"].set()
        assert await handle.result(timeout=30) == "a"
        assert runtime.failure is None
