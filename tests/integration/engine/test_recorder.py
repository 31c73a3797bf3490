"""What handlers tell is stored once, in order, without gaps, and before their end; whatever happens meanwhile."""

import asyncio
import functools
import json
from collections import Counter

import asyncpg
import msgspec
import pytest

from quarterdeck import JobCancelled, JobDiscarded, Quarterdeck, Snooze
from quarterdeck.config import Settings
from quarterdeck.domain.recorded import Entry
from quarterdeck.domain.state import Reason, State
from quarterdeck.engine import attempt as attempt_module
from quarterdeck.engine import recorder as recorder_module
from quarterdeck.engine import recording as recording_module
from quarterdeck.store.recording import RecordingStore
from tests.support import running as running_module
from tests.support.faults.replies import LostReplies
from tests.support.running import running, worker_of
from tests.support.waiting import eventually


class Door:
    """Stands before `record_events`: while it is shut, writes wait there, or fail where it `refuses`."""

    def __init__(self, monkeypatch):
        self.opened = asyncio.Event()
        self.opened.set()
        self.tries = 0
        self.groups = []
        self.refuses = False
        write = RecordingStore.record_events

        async def through(store, group):
            self.tries += 1
            if self.refuses and not self.opened.is_set():
                raise asyncpg.ConnectionDoesNotExistError("the database is away")
            await self.opened.wait()
            recorded = await write(store, group)
            self.groups.append({each.id: len(each.entries) for each in group})
            return recorded

        monkeypatch.setattr(RecordingStore, "record_events", through)

    def shut(self, *, refuses=False):
        self.opened.clear()
        self.refuses = refuses

    def open(self):
        self.opened.set()


@pytest.fixture
def door(monkeypatch):
    return Door(monkeypatch)


async def everything(connection, job_id):
    """What was recorded of a job, checked: with its timeline it has each number from 1 to its seq once."""
    over = await connection.fetch("select * from quarterdeck.job_history where id = $1", job_id)
    (row,) = over or await connection.fetch("select * from quarterdeck.job where id = $1", job_id)
    rows = await connection.fetch("select * from quarterdeck.job_event where job_id = $1 order by seq", job_id)
    entries = [json.loads(line) for line in row["timeline"].splitlines()]
    seqs = sorted([*(entry[0] for entry in entries), *(each["seq"] for each in rows)])
    assert seqs == list(range(1, row["seq"] + 1)), (row["timeline"], [each["seq"] for each in rows])
    if over:
        assert entries[-1][0] == row["seq"], "something came after the end"
    return row, [(each["event"], json.loads(each["data"])) for each in rows]


def messages(events):
    return [data["message"] for event, data in events if event == "log"]


async def test_what_a_handler_tells_is_stored_in_order_and_before_its_end(database_url, connection):
    deck = Quarterdeck()

    @deck.handler()
    async def tell(ctx) -> str:
        await ctx.log("begins")
        await ctx.progress(0.1, "one")
        await ctx.output({"part": 1})
        await ctx.log("goes on", level="warning")
        for number in range(2, 10):
            await ctx.progress(number / 10, str(number))
        return "over"

    async with running(database_url, deck):
        handle = await tell.submit()
        assert await handle.result(timeout=30) == "over"
        job = await handle.job()
    row, events = await everything(connection, handle.id)
    assert events == [
        ("log", {"level": "info", "message": "begins"}),
        ("progress", {"fraction": 0.1, "message": "one"}),
        ("output", {"part": 1}),
        ("log", {"level": "warning", "message": "goes on"}),
        ("progress", {"fraction": 0.9, "message": "9"}),
    ]
    assert json.loads(row["progress"]) == {"fraction": 0.9, "message": "9"}
    assert (job.seq, msgspec.json.decode(job.progress)["fraction"]) == (8, 0.9)


async def test_progress_is_stored_while_the_handler_runs(database_url, connection):
    deck = Quarterdeck()
    release = asyncio.Event()

    @deck.handler()
    async def hold(ctx) -> None:
        await ctx.progress(0.25)
        await ctx.progress(0.5)
        await release.wait()

    async with running(database_url, deck):
        handle = await hold.submit()

        async def half_way():
            job = await handle.job()
            return job.progress is not None and msgspec.json.decode(job.progress)["fraction"] == 0.5

        await eventually(half_way)
        assert (await handle.job()).state is State.RUNNING
        release.set()
        await handle.result(timeout=30)
    _, events = await everything(connection, handle.id)
    assert [data["fraction"] for _, data in events] == [0.25, 0.5]


async def test_what_comes_while_a_group_is_written_is_the_next_group(database_url, connection, door):
    deck = Quarterdeck()

    @deck.handler()
    async def tell(ctx, number: int) -> None:
        for line in range(5):
            await ctx.log(f"{number} {line}")

    door.shut()
    async with running(database_url, deck, concurrency=20):
        handles = await asyncio.gather(*(tell.submit(number=number) for number in range(20)))
        await eventually(lambda: door.tries == 1)
        first = (await tell.submit(number=20)).id
        await eventually(lambda: len(deck._engine.parts.recorder._waiting) > 15)
        door.open()
        await asyncio.gather(*(handle.result(timeout=30) for handle in handles))
    assert len(door.groups) < 10
    assert sum((Counter(group) for group in door.groups), Counter())[first] == 5
    for number, handle in enumerate(handles):
        _, events = await everything(connection, handle.id)
        assert messages(events) == [f"{number} {line}" for line in range(5)]


async def test_handlers_that_tell_nothing_cost_no_statement(database_url, connection, door):
    deck = Quarterdeck()

    @deck.handler()
    async def silent(ctx) -> int:
        return ctx.job.attempt

    async with running(database_url, deck):
        assert await (await silent.submit()).result(timeout=30) == 1
    assert door.tries == 0


async def test_whoever_follows_jobs_is_told_of_them_after_the_commit(database_url, connection):
    deck = Quarterdeck()
    release, seen = asyncio.Event(), []

    @deck.handler()
    async def tell(ctx) -> None:
        await ctx.log("a")
        await release.wait()

    async with running(database_url, deck) as runtime:
        runtime.engine.parts.recorder._told = seen.extend
        handle = await tell.submit()
        await eventually(lambda: seen)
        assert await connection.fetchval("select seq from quarterdeck.job where id = $1", handle.id) == 3
        release.set()
        await handle.result(timeout=30)
    assert seen == [handle.id]


@pytest.mark.parametrize("refuses", [False, True], ids=["hangs", "is away"])
async def test_a_slot_comes_back_while_events_wait_for_the_database_and_the_end_waits_for_them(
    database_url, connection, door, refuses
):
    deck = Quarterdeck()

    @deck.handler()
    async def tell(ctx) -> None:
        await ctx.log("a")
        await ctx.progress(0.1)
        await ctx.progress(1)

    door.shut(refuses=refuses)
    async with running(database_url, deck, concurrency=1):
        handle = await tell.submit()
        await eventually(lambda: door.tries > 1 or (door.tries and not refuses))
        for _ in range(3):
            assert await (await deck.submit("quarterdeck.echo", {"a": 1})).result(timeout=30) == {"a": 1}
        assert (await handle.job()).state is State.RUNNING
        door.open()
        await handle.result(timeout=30)
    row, events = await everything(connection, handle.id)
    assert [event for event, _ in events] == ["log", "progress", "progress"]
    assert json.loads(row["progress"])["fraction"] == 1.0


@pytest.mark.parametrize("how", ["timeout", "cancel"])
async def test_a_handler_that_waits_to_tell_is_stopped_as_any_other(database_url, connection, door, how, monkeypatch):
    monkeypatch.setattr(recording_module, "MAX_UNWRITTEN", 3)
    deck = Quarterdeck()
    told = []

    @deck.handler(timeout=0.5 if how == "timeout" else 60, max_attempts=1)
    async def tell(ctx) -> None:
        for number in range(10):
            await ctx.log(str(number))
            told.append(number)

    door.shut()
    async with running(database_url, deck, concurrency=1) as runtime:
        handle = await tell.submit()
        await eventually(lambda: len(told) == 3)
        if how == "cancel":
            await handle.cancel()
        await eventually(lambda: runtime.engine.parts.executor.running == 0)
        assert (await handle.job()).state is State.RUNNING
        door.open()
        with pytest.raises(JobDiscarded if how == "timeout" else JobCancelled) as caught:
            await handle.result(timeout=30)
        assert caught.value.job.state_reason is (Reason.TIMEOUT if how == "timeout" else Reason.CANCEL_REQUESTED)
    _, events = await everything(connection, handle.id)
    assert messages(events) == ["0", "1", "2"]


async def test_an_abandoned_handler_tells_nothing_more(database_url, connection, monkeypatch):
    monkeypatch.setattr(attempt_module, "ABANDON_AFTER", 0.1)
    deck = Quarterdeck()
    release = asyncio.Event()
    refused = []

    @deck.handler(timeout=0.2, max_attempts=1)
    async def stubborn(ctx) -> None:
        await ctx.log("before")
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                await ctx.log("cleans up")
        for call in (ctx.log("after"), ctx.progress(1), ctx.output(1)):
            try:
                await call
            except RuntimeError as error:
                refused.append(str(error))

    async with running(database_url, deck):
        handle = await stubborn.submit()
        with pytest.raises(JobDiscarded):
            await handle.result(timeout=30)
        release.set()
        await eventually(lambda: len(refused) == 3)
    _, events = await everything(connection, handle.id)
    assert messages(events) == ["before", "cleans up"]


async def test_a_cancel_between_two_lines_has_its_own_number(database_url, connection):
    deck = Quarterdeck()
    begun = asyncio.Event()

    @deck.handler()
    async def tell(ctx) -> str:
        for number in range(5):
            await ctx.log(f"before {number}")
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            for number in range(5):
                await ctx.log(f"after {number}")
            await ctx.progress(1)
            return "all the same"

    async with running(database_url, deck):
        handle = await tell.submit()
        await begun.wait()
        await handle.cancel()
        assert await handle.result(timeout=30) == "all the same"
    _, events = await everything(connection, handle.id)
    assert messages(events) == [f"{when} {number}" for when in ("before", "after") for number in range(5)]
    assert events[-1] == ("progress", {"fraction": 1.0, "message": None})


async def test_each_attempt_goes_on_where_the_last_one_ended(database_url, connection):
    deck = Quarterdeck()

    @deck.handler(max_attempts=3, retry={"backoff": "fixed", "base": 0.01})
    async def tell(ctx) -> object:
        await ctx.log(f"attempt {ctx.job.attempt} seq {ctx.job.seq}")
        await ctx.progress(ctx.job.attempt / 10)
        if ctx.job.attempt == 1:
            raise ValueError("no")
        return "over" if ctx.job.seq > 9 else Snooze(0.01)

    async with running(database_url, deck):
        handle = await tell.submit()
        assert await handle.result(timeout=30) == "over"
    row, events = await everything(connection, handle.id)
    assert len(events) == 6
    assert json.loads(row["progress"])["fraction"] == 0.2


def telling_deck(lines):
    deck = Quarterdeck()

    @deck.handler(max_attempts=1)
    async def tell(ctx) -> None:
        for number in range(lines):
            await ctx.log(str(number))
            if number % 10 == 0:
                await ctx.progress(number / lines)
                await ctx.output(number)
        await ctx.progress(1)

    return deck


async def assert_all_told(connection, job_id, lines):
    row, events = await everything(connection, job_id)
    assert messages(events) == [str(number) for number in range(lines)]
    assert [data for event, data in events if event == "output"] == list(range(0, lines, 10))
    assert json.loads(row["progress"])["fraction"] == 1.0


@pytest.mark.parametrize("seed", range(1))
async def test_lost_replies_lose_and_repeat_nothing(database_url, connection, monkeypatch, seed):
    replies = LostReplies(seed, lost=0.3, unsent=0.1, spared=("ensure_partitions", "announce_kinds"))
    replies.install(monkeypatch)
    monkeypatch.setattr(running_module, "Settings", functools.partial(Settings, lease=3.0))
    monkeypatch.setattr(recording_module, "MAX_UNWRITTEN", 7)
    deck = telling_deck(50)
    async with running(database_url, deck):
        handles = [await _insisting(lambda: deck.submit("tell", {})) for _ in range(3)]
        for handle in handles:

            async def over(job_id=handle.id):
                return await connection.fetchval("select true from quarterdeck.job_history where id = $1", job_id)

            await eventually(over, within=40)
    assert replies.lost["record_events"] > 3
    assert replies.lost["recorded_events"] + replies.unsent["recorded_events"] > 0
    for handle in handles:
        await assert_all_told(connection, handle.id, 50)


async def _insisting(submit):
    while True:
        try:
            return await submit()
        except Exception:  # noqa: BLE001 - its insert got lost: one more job does no harm here
            await asyncio.sleep(0.02)


async def test_sessions_that_the_database_ends_lose_and_repeat_nothing(database_url, connection, monkeypatch):
    monkeypatch.setattr(recording_module, "MAX_UNWRITTEN", 7)
    deck = telling_deck(300)
    ended = 0
    async with running(database_url, deck):
        handle = await deck.submit("tell", {})

        async def is_over():
            return await connection.fetchval("select count(*) from quarterdeck.job_history where id = $1", handle.id)

        written = 0
        while not await is_over():
            # Not again before something was written since: on a slow machine nothing would ever be.
            now = await connection.fetchval("select count(*) from quarterdeck.job_event where job_id = $1", handle.id)
            if now > written and ended < 10:
                written = now
                ended += await connection.fetchval(
                    """select count(pg_terminate_backend(pid)) from pg_stat_activity
                    where datname = current_database() and application_name = 'quarterdeck-engine'"""
                )
            await asyncio.sleep(0.002)
    assert ended > 3
    await assert_all_told(connection, handle.id, 300)


async def test_a_lost_lease_silences_the_attempt_and_the_next_one_tells_its_own(database_url, connection, door):
    deck = Quarterdeck()
    release = asyncio.Event()
    runs = []

    @deck.handler()
    async def tell(ctx) -> int:
        run = len(runs)
        runs.append(run)
        try:
            for number in range(3):
                await ctx.log(f"run {run} line {number}")
            await ctx.progress(run / 10)
            await release.wait()
        finally:
            await ctx.log(f"run {run} ends")
        return run

    async with running(database_url, deck, lease=3.0) as runtime:
        handle = await tell.submit()
        await eventually(lambda: door.groups)
        before = worker_of(runtime)
        door.shut()
        await connection.execute("delete from quarterdeck.worker")
        await eventually(lambda: worker_of(runtime) not in (None, before), within=10)
        door.open()
        release.set()
        await handle.result(timeout=30)
    _, events = await everything(connection, handle.id)
    assert "run 0 ends" not in messages(events), "it had lost its lease"
    assert messages(events)[-4:] == ["run 1 line 0", "run 1 line 1", "run 1 line 2", "run 1 ends"]


async def test_events_under_a_fence_that_was_lost_change_nothing(database_url, connection):
    deck = Quarterdeck()
    release, told = asyncio.Event(), asyncio.Event()

    @deck.handler()
    async def tell(ctx) -> None:
        await release.wait()
        for number in range(300):  # more than may be unwritten: they are dropped, and nobody waits
            await ctx.log(str(number))
        told.set()

    async with running(database_url, deck) as runtime:
        handle = await tell.submit()
        await eventually(lambda: runtime.engine.parts.executor.running == 1)
        # Somebody else rescued the job and runs it now.
        await connection.execute(
            "update quarterdeck.job set fence = fence + 1, worker = 'other' where id = $1", handle.id
        )
        release.set()
        await told.wait()
        await eventually(lambda: len(runtime.engine.parts.holdings) == 0)
        row, events = await everything(connection, handle.id)
        assert (row["state"], row["worker"], row["seq"], events) == ("running", "other", 2, [])


async def test_a_row_that_cannot_be_stored_is_dropped_alone(database_url, connection, monkeypatch):
    deck = Quarterdeck()

    @deck.handler()
    async def tell(ctx, bad: bool) -> None:
        for number in range(9):
            await ctx.log(str(number))
            if bad and number == 4:
                await ctx._recording.output(Entry("output", "{"))

    async with running(database_url, deck):
        handles = [await tell.submit(bad=number == 2) for number in range(5)]
        for handle in handles:
            await handle.result(timeout=30)
    for handle in handles:
        _, events = await everything(connection, handle.id)
        assert [data["message"] for _, data in events] == [str(number) for number in range(9)]


async def test_the_last_event_may_be_the_one_that_is_dropped(database_url, connection):
    deck = Quarterdeck()

    @deck.handler()
    async def tell(ctx) -> str:
        await ctx._recording.output(Entry("output", "{"))
        return "over"

    async with running(database_url, deck):
        handle = await tell.submit()
        assert await handle.result(timeout=30) == "over"
    assert (await everything(connection, handle.id))[1] == []


async def test_a_partition_that_is_missing_is_made(database_url, connection):
    deck = Quarterdeck()
    begun, release = asyncio.Event(), asyncio.Event()

    @deck.handler()
    async def tell(ctx) -> None:
        begun.set()
        await release.wait()
        await ctx.log("a")

    async with running(database_url, deck):
        handle = await tell.submit()
        await begun.wait()
        tables = await connection.fetch(
            "select c.oid::regclass::text as name from pg_inherits join pg_class c on c.oid = inhrelid"
            " where inhparent = 'quarterdeck.job_event'::regclass"
        )
        for table in tables:
            await connection.execute(f"drop table {table['name']}")
        release.set()
        await handle.result(timeout=30)
    assert messages((await everything(connection, handle.id))[1]) == ["a"]


async def test_a_stop_writes_what_was_told_and_then_the_end(database_url, connection, door):
    deck = Quarterdeck()
    begun = asyncio.Event()

    @deck.handler()
    async def tell(ctx) -> None:
        try:
            await ctx.log("begins")
            await ctx.progress(0.1)
            await ctx.progress(0.5)
            begun.set()
            await asyncio.Event().wait()
        finally:
            await ctx.log("is interrupted")

    async with running(database_url, deck) as runtime:
        handle = await tell.submit()
        await begun.wait()
        await runtime.stop(grace=0)
    row, events = await everything(connection, handle.id)
    assert (row["state"], row["state_reason"], row["attempt"]) == ("available", "interrupted", 0)
    assert messages(events) == ["begins", "is interrupted"]
    assert json.loads(row["progress"])["fraction"] == 0.5


async def test_a_stop_does_not_wait_long_for_a_database_that_is_away(database_url, connection, door):
    deck = Quarterdeck()

    @deck.handler()
    async def tell(ctx) -> None:
        await ctx.log("a")

    door.shut(refuses=True)
    async with running(database_url, deck) as runtime:
        handle = await tell.submit()
        await eventually(lambda: runtime.engine.parts.recorder._ending)
        async with asyncio.timeout(10):
            await runtime.stop(grace=0)
    row, _ = await everything(connection, handle.id)
    assert row["state"] == "running", "its lease will end, and it is rescued"


async def test_the_groups_are_bounded_and_everybody_gets_a_turn(database_url, connection, door, monkeypatch):
    monkeypatch.setattr(recorder_module, "MAX_EVENTS", 10)
    deck = telling_deck(200)
    async with running(database_url, deck):
        handles = [await deck.submit("tell", {}) for _ in range(5)]
        for handle in handles:
            await handle.result(timeout=30)
    assert max(sum(group.values()) for group in door.groups) == 10
    for handle in handles:
        await assert_all_told(connection, handle.id, 200)
