"""Queues in a running service: pausing them, filling them, counting them."""

import asyncio

import pytest

from quarterdeck import Quarterdeck
from quarterdeck.domain.errors import InvalidSettings, QueueFull
from quarterdeck.domain.queue import QueuePatch
from quarterdeck.domain.state import Reason, State
from quarterdeck.engine import room
from quarterdeck.store.queues import QueueStore
from tests.support.factories import open_stores
from tests.support.running import running
from tests.support.waiting import eventually

PAUSED = QueuePatch(paused=True)
RESUMED = QueuePatch(paused=False)
TICKS = 10.0
"""Seconds in which every process has looked at least once, a slow one too."""


@pytest.fixture
def deck():
    return Quarterdeck()


@pytest.fixture
def begun(deck):
    """The numbers of the jobs of the kind `note` that have begun."""
    numbers = []

    @deck.handler()
    async def note(number: int) -> None:
        numbers.append(number)

    return numbers


@pytest.fixture
def gate(deck):
    """What jobs of the kind `hold` wait for."""
    gate = asyncio.Event()

    @deck.handler()
    async def hold() -> None:
        await gate.wait()

    return gate


async def a_look_of_the_tick(runtime):
    """Wait until the service has looked at all queues once more, and had its say."""
    tick = runtime.engine.parts.upkeep.tick
    looks = []

    async def counted(*arguments):
        look = await tick(*arguments)
        looks.append(look)
        return look

    runtime.engine.parts.upkeep.tick = counted
    await eventually(lambda: len(looks) >= 2)
    runtime.engine.parts.upkeep.tick = tick


async def test_a_paused_queue_begins_nothing_and_goes_on_when_it_is_resumed(database_url, deck, begun):
    async with running(database_url, deck) as runtime:
        queues = runtime.engine.queues
        assert (await queues.update("default", PAUSED)).settings.paused
        handles = [await deck.submit("note", {"number": number}) for number in range(5)]
        await deck.submit("note", {"number": 100}, queue="other")
        await eventually(lambda: begun == [100])
        await a_look_of_the_tick(runtime)
        assert begun == [100]
        assert [(await handle.job()).state for handle in handles] == [State.AVAILABLE] * 5
        assert (await queues.get("default")).depth.available == 5
        await queues.update("default", RESUMED)
        await asyncio.gather(*(handle.result(timeout=30) for handle in handles))
        assert sorted(begun) == [0, 1, 2, 3, 4, 100]


async def test_a_resume_here_is_not_left_to_the_tick(database_url, deck, begun, monkeypatch):
    async with running(database_url, deck) as runtime:
        await runtime.engine.queues.update("default", PAUSED)
        handle = await deck.submit("note", {"number": 1})
        monkeypatch.setattr(runtime.engine.parts.tick, "_on_work", lambda _queues: None)
        await runtime.engine.queues.update("default", RESUMED)
        assert await handle.result(timeout=30) is None


async def test_other_processes_see_a_pause_at_once_and_a_resume_with_their_tick(database_url, deck, begun):
    async with running(database_url, deck) as worker, running(database_url, role="web") as web:
        assert worker is not web
        await web.engine.queues.update("default", PAUSED)
        handle = await deck.submit("note", {"number": 1})
        assert (await handle.job()).state is State.AVAILABLE
        await a_look_of_the_tick(worker)
        assert begun == []
        await web.engine.queues.update("default", RESUMED)
        assert await handle.result(timeout=TICKS) is None


async def test_what_was_claimed_and_not_begun_is_given_back_by_a_pause(database_url, deck, gate):
    async with running(database_url, deck, concurrency=2) as runtime:
        engine = runtime.engine
        held = [await deck.submit("hold", queue="busy") for _ in range(2)]
        await eventually(lambda: engine.parts.executor.running == 2)
        # More than there are slots, as when jobs are short and many are claimed ahead.
        engine.parts.executor.demand = lambda: 3
        waiting = [await deck.submit("hold", queue=queue) for queue in ("default", "default", "other")]
        await eventually(lambda: engine.parts.executor._ready.qsize() == 3)
        await engine.queues.update("default", PAUSED)
        assert engine.parts.executor._ready.qsize() == 1

        async def back():
            jobs = [await handle.job() for handle in waiting]
            assert [job.state for job in jobs] == [State.AVAILABLE, State.AVAILABLE, State.RUNNING]
            assert [(job.state_reason, job.attempt, job.attempted_at) for job in jobs[:2]] == [
                (Reason.INTERRUPTED, 0, None)
            ] * 2
            return True

        await eventually(back)
        del engine.parts.executor.demand
        gate.set()
        await asyncio.gather(*(handle.result(timeout=30) for handle in (*held, waiting[2])))
        await engine.queues.update("default", RESUMED)
        await asyncio.gather(*(handle.result(timeout=30) for handle in waiting))


async def test_what_a_claim_under_way_brings_is_given_back_by_a_pause(database_url, deck, begun):
    async with running(database_url, deck) as runtime:
        engine = runtime.engine
        answered, go_on = asyncio.Event(), asyncio.Event()
        claim = engine.parts.attempts.claim_jobs

        async def slow(*arguments):
            jobs = await claim(*arguments)
            if jobs:
                answered.set()
                await go_on.wait()
            return jobs

        engine.parts.attempts.claim_jobs = slow
        engine.parts.submitter.stop_hand_off()
        handle = await deck.submit("note", {"number": 1})
        await answered.wait()
        await engine.queues.update("default", PAUSED)
        go_on.set()

        async def back():
            return (await handle.job()).state is State.AVAILABLE

        await eventually(back)
        assert begun == []


async def test_settings_of_later_releases_change_nothing(database_url):
    async with running(database_url) as runtime:
        with pytest.raises(InvalidSettings, match="not supported by this release"):
            await runtime.engine.queues.update("default", QueuePatch(paused=True, concurrency=5))
        assert not (await runtime.engine.queues.get("default")).settings.paused


async def test_callers_at_the_same_time_share_a_count(database_url, monkeypatch):
    counted = []
    count_depths, get_queues = QueueStore.count_depths, QueueStore.get_queues

    async def counting(self, names):
        counted.append(names)
        return await count_depths(self, names)

    async def getting(self, names):
        read.append(names)
        return await get_queues(self, names)

    read = []
    monkeypatch.setattr(QueueStore, "count_depths", counting)
    monkeypatch.setattr(QueueStore, "get_queues", getting)
    async with running(database_url) as runtime:
        reports = await asyncio.gather(*(runtime.engine.queues.get("default") for _ in range(100)))
        assert len({report.depth.as_of for report in reports}) <= 2
        assert len(counted) <= 2
        assert len(read) <= 2


# Room


async def bounded(runtime, max_depth, queue="default"):
    await runtime.engine.queues.update(queue, QueuePatch(max_depth=max_depth, paused=True))


async def test_a_queue_takes_as_many_jobs_as_its_max_depth_and_no_more(database_url, deck, begun):
    async with running(database_url, deck) as runtime:
        await bounded(runtime, 5)
        submits = [deck.submit("note", {"number": number}) for number in range(200)]
        outcomes = await asyncio.gather(*submits, return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, QueueFull)]
        assert len(refused) == 195
        assert (refused[0].queue, refused[0].max_depth, refused[0].retry_after) == ("default", 5, 1)

        async def is_full():  # a count is shown for a second
            return (await runtime.engine.queues.get("default")).depth.available == 5

        await eventually(is_full)
        await deck.submit("note", {"number": 0}, queue="other")


async def test_room_that_jobs_leave_is_found_again(database_url, deck, begun):
    async with running(database_url, deck) as runtime:
        await runtime.engine.queues.update("default", QueuePatch(max_depth=2))

        async def submit(number):
            while True:
                try:
                    return await deck.submit("note", {"number": number})
                except QueueFull:
                    await asyncio.sleep(room.COUNT_AGAIN)

        for number in range(10):
            await (await submit(number)).result(timeout=30)
        assert begun == list(range(10))


async def test_a_max_depth_holds_as_soon_as_it_is_set_and_no_longer_than_it_is(database_url, deck, begun):
    async with running(database_url, deck) as runtime:
        await bounded(runtime, 1)
        await deck.submit("note", {"number": 1})
        with pytest.raises(QueueFull):
            await deck.submit("note", {"number": 2})
        await bounded(runtime, 2)
        await deck.submit("note", {"number": 2})
        with pytest.raises(QueueFull):
            await deck.submit("note", {"number": 3})
        await bounded(runtime, None)
        await deck.submit("note", {"number": 3})


async def test_a_max_depth_set_elsewhere_holds_after_a_tick(database_url, deck, begun):
    async with running(database_url, deck) as runtime, running(database_url, role="web") as elsewhere:
        await bounded(elsewhere, 1)
        await a_look_of_the_tick(runtime)
        await deck.submit("note", {"number": 1})
        with pytest.raises(QueueFull):
            await deck.submit("note", {"number": 2})


async def test_queues_without_a_max_depth_cost_a_submit_nothing(database_url, deck, begun, monkeypatch):
    async with running(database_url, deck) as runtime:
        await bounded(runtime, 10, "bounded")
        await a_look_of_the_tick(runtime)
        counted = []
        monkeypatch.setattr(QueueStore, "count_room", lambda _self, names: counted.append(names))
        await (await deck.submit("note", {"number": 1})).result(timeout=30)
        assert counted == []


async def test_several_queues_are_let_in_all_or_none(database_url):
    async with running(database_url) as runtime, open_stores(database_url) as stores:
        keeper = room.RoomKeeper(QueueStore(stores.source), calls=runtime.engine.parts.calls)
        for queue, max_depth in (("a", 10), ("b", 3)):
            await runtime.engine.queues.update(queue, QueuePatch(max_depth=max_depth))
        keeper.see(["a", "b"])

        async def let_in(**counts):
            async with keeper.reserve(counts):
                pass

        with pytest.raises(QueueFull, match="'b'"):
            await let_in(a=10, b=4, c=1000)
        await let_in(a=10, b=3, c=1000)
        with pytest.raises(QueueFull, match="'a'"):
            await let_in(a=1)


async def test_what_is_being_stored_takes_room_however_often_it_is_counted(database_url):
    async with running(database_url) as runtime, open_stores(database_url) as stores:
        keeper = room.RoomKeeper(QueueStore(stores.source), calls=runtime.engine.parts.calls)
        await runtime.engine.queues.update("a", QueuePatch(max_depth=2))
        keeper.see(["a"])
        async with keeper.reserve({"a": 1}), keeper.reserve({"a": 1}):
            keeper.bind("a", 2)  # what was counted before holds no more
            with pytest.raises(QueueFull):
                async with keeper.reserve({"a": 1}):
                    pass
        keeper.bind("a", 2)
        async with keeper.reserve({"a": 2}):
            pass
