"""workbench: jobs run when a test says so, in order, on a real database."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import psutil
import pytest

from quarterdeck import JobContext, Quarterdeck, Snooze, Unavailable
from quarterdeck.testing import Line, database_server, drain, run_inline, workbench
from tests.support.waiting import eventually


def make_deck():
    deck = Quarterdeck()
    deck.resources["ran"] = []

    @deck.handler()
    async def note(ctx: JobContext, name: str) -> str:
        ctx.resources["ran"].append(name)
        return name

    @deck.handler(max_attempts=3, retry={"backoff": "fixed", "base": 3600})
    async def fail(ctx: JobContext, until: int = 99) -> int:
        if ctx.job.attempt < until:
            raise ValueError(f"attempt {ctx.job.attempt}")
        return ctx.job.attempt

    @deck.handler()
    async def begin(ctx: JobContext) -> None:
        await ctx.log("beginning")
        await ctx.output({"part": 1})
        await ctx.submit("note", {"name": "child"}, tags=["from-begin"], delay="1h")
        await note.submit(name="sister")

    @deck.handler()
    async def wait_for(name: str) -> str:
        return await (await note.submit(name=name)).result()

    @deck.handler()
    async def for_ever() -> Snooze:
        return Snooze(60)

    return deck


@pytest.fixture
async def bench(database_url):
    async with workbench(make_deck(), database_url) as bench:
        yield bench


async def test_nothing_runs_until_it_is_drained_and_then_in_order(bench):
    for name, priority in (("second", 5), ("third", 5), ("first", 0)):
        await bench.deck.submit("note", {"name": name}, priority=priority)
    await bench.deck.submit("note", {"name": "elsewhere"}, queue="another")
    await asyncio.sleep(0.05)
    assert bench.deck.resources["ran"] == []
    assert [job.state for job in await bench.submitted()] == ["available"] * 4
    ended = await bench.drain("default")
    assert bench.deck.resources["ran"] == ["first", "second", "third"]
    assert [bytes(job.result) for job in ended] == [b'"first"', b'"second"', b'"third"']
    await bench.drain()
    assert bench.deck.resources["ran"][3:] == ["elsewhere"]
    assert await bench.drain() == []


async def test_what_handlers_submit_runs_too_and_what_is_scheduled_where_it_should(bench):
    handle = await bench.deck.submit("begin")
    assert [job.kind for job in await bench.drain()] == ["begin", "note"]
    assert bench.deck.resources["ran"] == ["sister"]
    await bench.assert_submitted("note", {"name": "child"}, tags=["from-begin"], delay=3600, state="scheduled")
    await bench.assert_not_submitted("note", {"name": "brother"})
    with pytest.raises(AssertionError, match="name is 'child', not 'brother'"):
        await bench.assert_submitted("note", {"name": "brother"})
    await bench.drain(scheduled=True)
    assert bench.deck.resources["ran"] == ["sister", "child"]
    assert await bench.logs(handle) == [Line("info", "beginning")]
    assert await bench.outputs(handle) == [{"part": 1}]
    assert await handle.result() is None


async def test_what_is_scheduled_runs_in_the_order_of_its_time(bench):
    for name, delay in (("tomorrow", "1d"), ("in an hour", "1h"), ("in two hours", "2h")):
        await bench.deck.submit("note", {"name": name}, delay=delay)
    await bench.drain(scheduled=True)
    assert bench.deck.resources["ran"] == ["in an hour", "in two hours", "tomorrow"]


async def test_a_drain_returns_jobs_as_their_attempts_left_them_also_where_they_are_due_at_once(bench):
    for _ in range(20):
        await bench.deck.submit("fail", {"until": 2}, retry={"backoff": [0.001], "jitter": False})
    ended = await bench.drain(scheduled=True, failures=True)
    assert sorted(job.state for job in ended) == ["completed"] * 20 + ["retryable"] * 20


async def test_jobs_run_one_after_another_unless_more_may(bench):
    running, most = 0, []

    @bench.deck.handler("overlap")
    async def overlap() -> None:
        nonlocal running
        running += 1
        await asyncio.sleep(0.01)
        most.append(running)
        running -= 1

    async with workbench(bench.deck, bench.url) as later:  # the first one began without this handler
        for at_once in (1, 3):
            most.clear()
            for _ in range(3):
                await overlap.submit()
            await later.drain(at_once=at_once)
            assert max(most) == at_once


async def test_a_failure_is_raised_with_its_traceback_unless_it_is_expected(bench):
    handle = await bench.deck.submit("fail", {"until": 3})
    with pytest.raises(AssertionError, match=r"fail, attempt 1, now retryable:\n(?s:.*)ValueError: attempt 1"):
        await bench.drain()
    ended = await bench.drain(scheduled=True, failures=True)
    assert [(job.state, job.attempt) for job in ended] == [("retryable", 2), ("completed", 3)]
    assert await handle.result() == 3
    assert (await bench.job(handle)).state == "completed"
    await bench.deck.submit("fail")
    ended = await bench.drain(scheduled=True, failures=True)
    assert [job.state for job in ended] == ["retryable", "retryable", "discarded"]


async def test_of_attempts_that_ended_between_two_looks_the_first_to_end_comes_first(bench, monkeypatch):
    monkeypatch.setattr(drain, "PAUSE", 0.3)
    monkeypatch.setattr(drain, "LOOKS", 1)
    await bench.deck.submit("wait_for", {"name": "it"})
    ended = await bench.drain(at_once=2)
    assert [job.kind for job in ended] == ["note", "wait_for"]


async def test_a_handler_that_waits_for_a_job_needs_room_for_it(bench):
    await bench.deck.submit("wait_for", {"name": "late"})
    with pytest.raises(AssertionError, match=r"not drained within 1 s: wait_for still runs.*drain\(at_once=2\)"):
        await bench.drain(within=1)
    ended = await bench.drain(at_once=2)
    assert [job.kind for job in ended] == ["note"]
    handle = await bench.deck.submit("wait_for", {"name": "in time"})
    ended = await bench.drain(at_once=2)
    assert [job.kind for job in ended] == ["note", "wait_for"]
    assert await handle.result() == "in time"


async def test_a_job_that_never_ends_is_told(bench):
    await bench.deck.submit("for_ever")
    with pytest.raises(AssertionError, match="5 attempts were run and there is still work, for_ever among it"):
        await bench.drain(scheduled=True, limit=5)


async def test_a_handler_can_be_run_inline_beside_it(bench):
    begin = next(handler for handler in bench.deck.handlers if handler.kind == "begin")
    assert begin is not None

    @bench.deck.handler("inline")
    async def inline(ctx: JobContext) -> None:
        await ctx.submit("note", {"name": "noted"})

    ran = await run_inline(inline)
    ran.assert_submitted("note", {"name": "noted"})
    await bench.assert_not_submitted("note")
    await bench.deck.submit("note", {"name": "stored"})
    await bench.assert_submitted("note", count=1)


async def test_each_workbench_has_a_database_of_its_own_on_the_server_of_the_tests(server_dsn):
    deck = make_deck()
    with database_server(server_dsn) as server:
        async with workbench(deck, server, resources={"ran": (ran := [])}) as bench:
            await deck.submit("note", {"name": "first"})
            await bench.drain()
        assert (ran, deck.resources["ran"]) == (["first"], [])
        with pytest.raises(Unavailable):
            await deck.submit("note", {"name": "closed"})
        async with workbench(deck, server) as bench:
            assert await bench.submitted() == []


async def test_a_workbench_within_another_leaves_it_as_it_was(bench, server_dsn):
    with database_server(server_dsn) as server:
        async with workbench(bench.deck, server) as inner:
            await bench.deck.submit("note", {"name": "inside"})
            assert [job.args["name"] for job in await inner.submitted()] == ["inside"]
    await bench.deck.submit("note", {"name": "outside"})
    await bench.assert_submitted("note", {"name": "outside"}, count=1)
    await bench.assert_not_submitted("note", {"name": "inside"})


async def test_what_a_workbench_stands_for_cannot_be_set(database_url):
    for name in ("queues", "lease", "role", "database_url"):
        with pytest.raises(TypeError, match=f"{name}.*says that itself"):
            async with workbench(make_deck(), database_url, **{name: "all"}):
                pass
    # It would be the database of `qd serve` in this directory, and its jobs would run.
    with pytest.raises(ValueError, match="database_server"):
        async with workbench(make_deck(), "embedded"):
            pass


async def test_resources_of_the_service_are_opened_unless_the_test_gives_them(database_url):
    deck = make_deck()
    life = []

    @deck.resource()
    async def api():
        life.append("opened")
        yield "the real one"
        life.append("closed")

    @deck.handler()
    async def call(ctx: JobContext) -> str:
        return ctx.resources["api"]

    async with workbench(deck, database_url, resources={"api": "a false one"}) as bench:
        handle = await call.submit()
        await bench.drain()
        assert await handle.result() == "a false one"
    assert life == []
    async with workbench(deck, database_url) as bench:
        handle = await call.submit()
        await bench.drain()
        assert await handle.result() == "the real one"
    assert life == ["opened", "closed"]
    assert "api" not in deck.resources


async def test_a_server_is_started_where_none_is_named_and_stopped_afterwards():
    deck = make_deck()
    with database_server() as server:
        async with workbench(deck, server) as bench:
            handle = await deck.submit("note", {"name": "here"})
            await bench.drain()
            assert await handle.result() == "here"
    with pytest.raises(OSError, match=r"No such file|refused"):
        await asyncpg.connect(server.url)


def has_ended(process):
    try:
        return process.status() == psutil.STATUS_ZOMBIE  # where nobody reaps what has lost its parent
    except psutil.NoSuchProcess:
        return True


async def test_the_server_goes_with_a_test_run_that_is_killed():
    program = (
        "from quarterdeck.testing import database_server\n"
        "with database_server() as server: print(server.url, flush=True); input()"
    )
    run = subprocess.Popen(  # noqa: ASYNC220 - it only starts
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with run:
        url = await asyncio.to_thread(run.stdout.readline)
        directory = Path(parse_qs(urlsplit(url.strip()).query)["host"][0]).parents[1]
        assert directory.name.startswith("qd-")
        pid = int((directory / "postgres" / "cluster" / "postmaster.pid").read_text().split()[0])
        postmaster = psutil.Process(pid)
        os.killpg(run.pid, signal.SIGKILL)
    await eventually(lambda: has_ended(postmaster))
    await eventually(lambda: not directory.exists())
