"""A link to the database that loses, delays and cuts: nothing is lost, nothing is recorded twice, and it passes.

The service runs whole, behind its HTTP interface, on a proxy that does to its connections what a test says.
"""

import asyncio
import itertools
import random
from contextlib import asynccontextmanager
from time import monotonic

import pytest

from quarterdeck import Quarterdeck, bootstrap
from quarterdeck.bootstrap import Runtime
from quarterdeck.config import Settings
from quarterdeck.domain.state import State
from quarterdeck.store import pool
from quarterdeck.store.queries import SQL
from quarterdeck.web.app import create_app
from tests.contract.client import Client
from tests.support.faults.proxy import FaultyProxy
from tests.support.faults.rules import BlackHole, Delay, LoseReply, LoseRequest, Refuse
from tests.support.running import running, worker_of
from tests.support.waiting import eventually

SEED = 4
ANSWER_WITHIN = 2.0
"""Seconds that any answer may take."""
SLACK = 1.5
"""Seconds more on a machine that has other things to do, too; who waits for a statement's own end waits for longer."""
BACK_WITHIN = 10.0
"""Seconds after the link's return in which the service works as fast as before."""
API, ENGINE, HEARTBEAT = "quarterdeck-api", "quarterdeck-engine", "quarterdeck-heartbeat"
OWN = "quarterdeck."
"""In the service's own statements, and not in those by which the driver sets up a connection."""


@pytest.fixture
async def link(database_url):
    async with FaultyProxy(database_url, seed=SEED) as proxy:
        yield proxy


@pytest.fixture
def short_statements(monkeypatch):
    """Statements have a second, where a test would wait for several time limits."""
    monkeypatch.setattr(bootstrap, "COMMAND_TIMEOUT", 1.0)


class Ledger:
    """What callers were told, and what handlers did."""

    def __init__(self, dsn, lease):
        self.accepted = {}
        self.answers = []
        self.begun = []
        self.runs = []
        self.failures = 0
        self.release = asyncio.Event()
        self.runtime = Runtime(Settings(database_url=dsn, lease=lease, concurrency=10), self.deck())
        self.app = create_app(self.runtime)
        self._client = Client(self.app)

    def deck(self):
        """Handlers that enter their runs here."""
        deck = Quarterdeck()

        @deck.handler(retry={"backoff": "fixed", "base": 0.01})
        async def work(ctx, number: int, fails: int = 0, held: bool = False) -> int:
            job_id, began = str(ctx.job.id), monotonic()
            self.begun.append(job_id)
            try:
                await (self.release.wait() if held else asyncio.sleep(0.01))
            finally:
                self.runs.append((job_id, began, monotonic()))
            if ctx.job.attempt <= fails:
                self.failures += 1
                raise RuntimeError
            return number

        return deck

    async def ask(self, method, path, **options):
        """One request, whose answer is kept to be judged."""
        began = monotonic()
        answer = await self._client.call(method, path, **options)
        self.answers.append((method, path, answer.status, monotonic() - began, answer.headers.get("Retry-After")))
        return answer

    async def submit(self, number, *, within=20.0, unique=None, **args):
        """Submits a job as a careful caller does: under a key, and again until it is accepted."""
        body = {"kind": "work", "args": {"number": number, **args}, **({"unique": unique} if unique else {})}
        ends = monotonic() + within
        while monotonic() < ends:
            answer = await self.ask("POST", "/v1/jobs", body=body, headers={"Idempotency-Key": f"job-{number}"})
            if answer.status < 400:
                assert self.accepted.setdefault(number, answer.json["id"]) == answer.json["id"]
                return answer.json["id"]
            assert answer.status in (429, 503), answer.body
            await asyncio.sleep(0.05)
        raise AssertionError(f"not accepted within {within:g} s: {answer.body}")

    async def submit_all(self, numbers, *, every=0.0, **args):
        """Submits jobs at a pace, each in a task of its own."""
        async with asyncio.TaskGroup() as group:
            for number in numbers:
                group.create_task(self.submit(number, **args))
                await asyncio.sleep(every)

    async def burst(self, first, *, jobs=40):
        """Seconds from the submit of many jobs at once to the end of the last of them."""
        began = monotonic()
        await self.submit_all(range(first, first + jobs))
        ids = {self.accepted[number] for number in range(first, first + jobs)}
        await eventually(lambda: ids <= {job_id for job_id, _, _ in self.runs}, 20)
        return monotonic() - began

    async def back_at_full_speed(self, before, first=1000):
        """Seconds until jobs go through in about the time that they took `before`: none waits for a time limit."""
        asked, began, firsts = monotonic(), 0.0, itertools.count(first, 1000)

        async def fast():
            nonlocal began
            began = monotonic()
            return await self.burst(next(firsts)) < before * 3 + 0.8

        await eventually(fast, 40)
        return began - asked

    async def warm_up(self):
        """Opens every connection of both pools, and has it know a statement."""
        for each in self.runtime._pools:
            connections = [await each.acquire() for _ in range(each.get_max_size())]
            for connection in connections:
                await connection.fetch(SQL["get_jobs"], [], None, None)
                await each.release(connection)

    async def done(self, connection, within=20.0):
        """Waits until nothing is unfinished."""

        async def none_left():
            left = await connection.fetch("select state, count(*) as jobs from quarterdeck.job group by 1")
            assert not left, [tuple(row) for row in left]
            return True

        await eventually(none_left, within)

    async def judge(self, connection, *, reruns=0):
        """Each accepted job ended once, there are no others, no runs overlapped, and every answer was a good one."""
        await self.done(connection)
        rows = await connection.fetch("select id::text, state, timeline from quarterdeck.job_history")
        assert sorted(row["id"] for row in rows) == sorted(self.accepted.values())
        assert {(row["state"], row["timeline"].count('"completed"')) for row in rows} == {("completed", 1)}
        assert self.overlaps() == []
        assert len(self.accepted) <= len(self.runs) - self.failures <= len(self.accepted) + reruns
        assert self.bad_answers() == []

    def overlaps(self):
        """Runs of one job that went on at the same time."""
        return [
            (one, two) for one, two in itertools.pairwise(sorted(self.runs)) if one[0] == two[0] and two[1] < one[2]
        ]

    def bad_answers(self):
        """Answers that the contract does not allow."""
        return [
            (method, path, status, took, again)
            for method, path, status, took, again in self.answers
            if not (200 <= status < 300 or (status in (429, 503) and again)) or took > ANSWER_WITHIN + SLACK
        ]


@asynccontextmanager
async def serving(link, lease=3.0):
    ledger = Ledger(link.dsn, lease)
    async with ledger.app.test_app():
        await eventually(lambda: worker_of(ledger.runtime))
        yield ledger


# Lost replies and requests


@pytest.mark.parametrize("loss", [LoseReply, LoseRequest], ids=["reply", "request"])
@pytest.mark.parametrize("statement", ["insert_jobs", "claim_jobs", "finish_jobs", "reschedule_jobs"])
async def test_a_lost_statement_costs_nothing_but_time(link, connection, statement, loss):
    async with serving(link, lease=15.0) as ledger:
        switch = link.switch_on(loss(statement=SQL[statement], times=2))
        if statement == "claim_jobs":  # none is handed off
            await connection.execute("insert into quarterdeck.queue (name, paused) values ('default', true)")
        await ledger.submit_all(range(20), fails=int(statement == "reschedule_jobs"))
        await connection.execute("delete from quarterdeck.queue")
        await ledger.judge(connection)
        assert switch.hits == 2
        assert ledger.failures == (20 if statement == "reschedule_jobs" else 0)


async def test_a_submit_under_two_keys_whose_commit_is_not_confirmed_is_stored_once(link, connection):
    async with serving(link) as ledger:
        switch = link.switch_on(LoseReply(application=API, statement="COMMIT", times=1))
        job_id = await ledger.submit(1, unique={"key": "one"})
        assert await ledger.submit(1, unique={"key": "one"}) == job_id
        assert [status for _, _, status, _, _ in ledger.answers] == [503, 202, 202]
        assert switch.hits == 1
        await ledger.judge(connection)


async def test_a_link_that_loses_one_statement_in_four_loses_no_job(link, connection):
    async with serving(link, lease=15.0) as ledger:
        for application in (API, ENGINE):
            link.switch_on(LoseReply(application=application, statement=OWN, probability=0.15))
            link.switch_on(LoseRequest(application=application, statement=OWN, probability=0.1, ending="reset"))
            link.switch_on(Delay(application=application, to_server=0.001, to_client=0.001, jitter=0.01))
        await ledger.submit_all(range(100), every=0.01)
        await ledger.done(connection)
        lost = link.faults.injected["LoseReply"] + link.faults.injected["LoseRequest"]
        link.heal()
        await ledger.judge(connection)
        assert lost > 5


async def test_a_crowd_of_submits_gets_through_where_one_reply_in_three_is_lost(link, connection):
    async with serving(link, lease=15.0) as ledger:
        lost = link.switch_on(LoseReply(statement=SQL["insert_jobs"], skip=1, times=1))
        link.switch_on(LoseReply(application=API, statement=OWN, probability=0.3))
        began = monotonic()
        await ledger.submit_all(range(60))
        assert monotonic() - began < 20
        assert lost.hits == 1
        link.heal()
        await ledger.judge(connection)


async def test_a_hand_off_whose_reply_is_slow_runs_once(link, connection):
    async with serving(link, lease=1.0) as ledger:
        await ledger.submit(0)
        held = link.switch_on(BlackHole(application=API, to_server=False, unread=True))
        submit = asyncio.create_task(ledger.submit(1))
        await asyncio.sleep(1.5)  # as long as four looks for jobs that nobody here knows
        held.off()
        await submit
        await eventually(lambda: len(ledger.begun) == 2)
        await ledger.judge(connection)


async def test_a_claim_is_not_taken_for_a_hand_off_whose_reply_was_lost(link, connection):
    async with serving(link, lease=15.0) as ledger:
        engine = ledger.runtime.engine
        await ledger.submit(0)
        await ledger.warm_up()
        engine.parts.submitter.stop_hand_off()
        lost = link.switch_on(LoseReply(statement=SQL["insert_jobs"], times=1))
        submit = asyncio.create_task(ledger.submit(1, held=True))
        await eventually(lambda: lost.hits)
        asked = link.switch_on(BlackHole(application=API, to_client=False, unread=True))
        engine.parts.producers.wake(["default"])
        await eventually(lambda: len(ledger.begun) == 2)
        # The submitter finds the job running, as a hand-off would have left it, and hears of it when it has ended.
        answered = link.switch_on(BlackHole(application=API, to_server=False, unread=True))
        asked.off()
        await eventually(lambda: answered.hits)
        ledger.release.set()
        await ledger.done(connection)
        answered.off()
        await submit
        await asyncio.sleep(0.1)
        await ledger.judge(connection)


async def test_jobs_of_a_lost_claim_run_again_at_once(link, connection):
    async with serving(link, lease=300.0) as ledger:
        link.switch_on(LoseReply(statement=SQL["claim_jobs"], times=1))
        await connection.execute("insert into quarterdeck.queue (name, paused) values ('default', true)")
        await ledger.submit_all(range(5))
        await connection.execute("delete from quarterdeck.queue")
        await ledger.judge(connection)  # which waits for them, and far less long than the lease


# Links that are down


async def test_connections_that_are_reset_in_the_middle_of_work_cost_nothing_but_time(link, connection):
    async with serving(link, lease=15.0) as ledger:
        before = await ledger.burst(500)
        load = asyncio.create_task(ledger.submit_all(range(120), every=0.01))
        for _ in range(8):
            await asyncio.sleep(0.15)
            await eventually(lambda: link.reset() > 0)  # there may be none yet since the last time
        await load
        assert await ledger.back_at_full_speed(before) < BACK_WITHIN
        await ledger.judge(connection)


@pytest.mark.parametrize("how", ["nobody listens", "53300"])
async def test_a_server_that_takes_no_connections_is_answered_for_with_503(link, connection, how):
    async with serving(link, lease=15.0) as ledger:
        before = await ledger.burst(500)
        if how == "nobody listens":
            await link.shut()
        else:  # too many connections
            link.switch_on(Refuse(sqlstate=how))
        link.reset()
        load = asyncio.create_task(ledger.submit_all(range(20), every=0.02))
        await asyncio.sleep(0.5)
        assert (await ledger.ask("GET", "/v1/jobs/0193a5b0-0000-7000-8000-000000000000")).status == 503
        assert (await ledger.ask("GET", "/readyz")).status == 503
        assert (await ledger.ask("GET", "/livez")).status == 200
        ledger.answers = [answer for answer in ledger.answers if answer[1] != "/readyz"]
        link.heal()
        await link.open()
        assert await ledger.back_at_full_speed(before) < BACK_WITHIN
        await load
        await ledger.judge(connection)


# Links that are silent


async def test_a_service_whose_connections_all_fell_silent_is_back_within_ten_seconds(link, connection):
    async with serving(link, lease=15.0) as ledger:
        before = await ledger.burst(500)
        await ledger.warm_up()
        assert link.silence() >= 11  # the other end is gone, and nobody says so; new connections are well
        load = asyncio.create_task(ledger.submit_all(range(40), every=0.05))
        assert await ledger.back_at_full_speed(before) < BACK_WITHIN
        await load
        await ledger.judge(connection)


async def test_a_black_hole_that_outlasts_the_lease_stops_handlers_and_their_jobs_run_again(
    link, connection, short_statements
):
    async with serving(link, lease=1.5) as ledger:
        before = await ledger.burst(500)
        await ledger.done(connection)
        held = await ledger.submit(1, held=True)
        await eventually(lambda: held in ledger.begun)
        hole = link.switch_on(BlackHole())
        load = asyncio.create_task(ledger.submit_all(range(2, 22), every=0.1))
        began = monotonic()
        await eventually(lambda: ledger.runs[-1][0] == held)  # it was told to stop
        assert ledger.runs[-1][2] - began < 1.5
        await asyncio.sleep(2.5 - (monotonic() - began))
        hole.off()
        ledger.release.set()
        assert await ledger.back_at_full_speed(before) < BACK_WITHIN
        await load
        await ledger.judge(connection, reruns=1)


async def test_a_worker_that_cannot_beat_stops_before_another_one_takes_its_jobs(link, database_url, connection):
    async with serving(link, lease=1.5) as ledger, running(database_url, ledger.deck(), lease=1.5) as other:
        await eventually(other.engine.parts.lease.may_rescue)
        held = await ledger.submit(1, held=True)
        await eventually(lambda: ledger.begun == [held])
        link.switch_on(BlackHole(application=HEARTBEAT))
        await eventually(lambda: ledger.begun == [held, held])
        ledger.release.set()
        await ledger.judge(connection, reruns=1)
        # It goes on serving callers, though it may not run anything.
        assert worker_of(ledger.runtime) is None
        await ledger.submit(2)
        await ledger.judge(connection, reruns=1)


async def test_a_job_that_comes_back_while_its_last_run_still_stops_waits_for_that(database_url, connection):
    runs, release = [], asyncio.Event()
    deck = Quarterdeck()

    @deck.handler()
    async def slow_to_stop() -> str:
        began = monotonic()
        try:
            await release.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(2.5)
            raise
        finally:
            runs.append((began, monotonic()))
        return "done"

    async with running(database_url, deck, lease=1.0):
        handle = await slow_to_stop.submit()
        await eventually(lambda: _runs(handle))
        await connection.execute("delete from quarterdeck.worker")
        await eventually(lambda: len(runs) == 1)
        release.set()
        assert await handle.result(timeout=30) == "done"
    assert len(runs) == 2
    assert runs[0][1] <= runs[1][0]


async def _runs(handle):
    return (await handle.job()).state is State.RUNNING


@asynccontextmanager
async def three_connections(dsn, command_timeout):
    """A pool of the service's own kind, whose connections are all open."""
    opened = await pool.open_pool(dsn, name="test", size=3, command_timeout=command_timeout)
    held = [await opened.acquire() for _ in range(3)]
    for each in held:
        await opened.release(each)
    try:
        yield opened
    finally:
        await pool.close_pool(opened)


@pytest.fixture
async def connections(link):
    async with three_connections(link.dsn, command_timeout=1.0) as opened:
        yield opened


async def test_a_connection_that_fell_silent_takes_the_idle_ones_of_its_pool_with_it(link, connections):
    assert link.silence() == 3
    with pytest.raises(TimeoutError):
        await pool.fetch(connections, "ping")
    await pool.fetch(connections, "ping")  # on one of those that were silent, it would fail as well


async def test_a_statement_that_only_takes_its_time_leaves_others_alone(link, connections):
    slow = asyncio.create_task(pool.fetch(connections, "ping"))
    async with connections.acquire() as busy:
        delay = link.switch_on(LoseReply(statement=SQL["ping"], ending="silence"))
        with pytest.raises(TimeoutError):
            await slow
        assert delay.hits == 1
        assert await busy.fetchval("select 42") == 42


async def test_a_statement_that_is_cancelled_on_a_silent_link_stays_cancelled(link, connections):
    link.silence()
    statement = asyncio.create_task(pool.fetch(connections, "ping"))
    await asyncio.sleep(0.05)
    began = monotonic()
    statement.cancel()
    await asyncio.wait([statement])
    assert statement.cancelled()
    assert monotonic() - began < 0.8, "it did not wait for the statement's time limit"


async def test_a_statement_can_be_cancelled_at_any_moment(database_url):
    chance = random.Random(SEED)
    ends = set()

    async def cancelled_some_time(connections):
        statement = asyncio.create_task(pool.fetch(connections, "ping"))
        if chance.random() < 0.5:
            await asyncio.sleep(chance.uniform(0, 0.002))
        for _ in range(chance.randrange(40)):
            await asyncio.sleep(0)
        statement.cancel()
        await asyncio.wait([statement])
        ends.add("cancelled" if statement.cancelled() else type(statement.exception()).__name__)

    async with three_connections(database_url, command_timeout=5) as connections:
        for _ in range(70):
            await asyncio.gather(*(cancelled_some_time(connections) for _ in range(3)))
        await pool.fetch(connections, "ping")
    assert ends == {"cancelled", "NoneType"}


async def test_a_stop_does_not_wait_for_a_silent_link(link, connection, short_statements):
    async with serving(link) as ledger:
        await ledger.submit_all(range(5))
        await ledger.warm_up()
        link.switch_on(BlackHole())
        asked = [ledger.ask("GET", "/v1/jobs") for _ in range(5)]
        asked += [ledger.ask("GET", f"/v1/jobs/{job_id}") for job_id in ledger.accepted.values()]
        asking = asyncio.gather(ledger.ask("POST", "/v1/jobs", body={"kind": "work", "args": {"number": 5}}), *asked)
        await asyncio.sleep(0.1)
        async with asyncio.timeout(10):
            await ledger.runtime.stop(grace=0)
        assert {answer.status for answer in await asking} == {503}
        assert ledger.bad_answers() == []


# Callers that leave, and a schema that changes


async def test_callers_that_leave_in_the_middle_of_statements_harm_nobody(link, connection):
    chance = random.Random(SEED)
    async with serving(link, lease=15.0) as ledger:
        link.switch_on(Delay(to_server=0.002, to_client=0.002, jitter=0.005))
        jobs = ledger.runtime.engine.jobs

        async def impatient(number):
            try:
                async with asyncio.timeout(chance.uniform(0, 0.03)):
                    handle = await jobs.submit_by_name("work", {"number": number})
                    await asyncio.gather(handle.job(), handle.cancel(), handle.result())
            except (TimeoutError, Exception) as error:  # noqa: BLE001 - only who stays has a right to an answer
                return type(error)

        for start in range(0, 300, 20):
            await asyncio.gather(*(impatient(number) for number in range(start, start + 20)))
        assert {each.get_size() <= each.get_max_size() for each in ledger.runtime._pools} == {True}
        link.heal()
        await ledger.submit_all(range(1000, 1020))
        await ledger.done(connection)
        assert ledger.runtime.failure is None
        assert ledger.overlaps() == []
        assert len(ledger.runs) == len({job_id for job_id, _, _ in ledger.runs})
        assert await connection.fetchval("select count(*) from quarterdeck.job_history") > 20
        assert ledger.bad_answers() == []


async def test_a_schema_that_changes_under_load_is_nobodys_fault(link, connection):
    changes = [
        "alter table quarterdeck.job add column extra text not null default 'x'",
        "alter table quarterdeck.job_history add column extra text",
        "alter table quarterdeck.idempotency add column extra integer",
        "analyze quarterdeck.job",
        "create index concurrently another on quarterdeck.job (kind)",
        "drop index concurrently quarterdeck.another",
        "alter table quarterdeck.job alter column extra type varchar(20)",
        "alter table quarterdeck.job drop column extra",
    ]
    async with serving(link, lease=15.0) as ledger:
        load = asyncio.create_task(ledger.submit_all(range(150), every=0.01))
        for change in changes:
            await asyncio.sleep(0.1)
            await connection.execute(change)
        await load
        await ledger.judge(connection)
        assert {status for _, _, status, _, _ in ledger.answers} == {202}
