"""Handlers that misbehave hurt themselves only; what they raise and return is in `test_running_jobs`."""

import asyncio
import time

import pytest

from quarterdeck import Quarterdeck
from tests.support.factories import open_stores
from tests.support.running import running, worker_of
from tests.support.waiting import eventually


@pytest.fixture
def deck():
    deck = Quarterdeck()

    @deck.handler()
    async def turn() -> str:
        await asyncio.sleep(0)
        return "done"

    return deck


async def test_a_handler_that_blocks_the_loop_for_longer_than_a_lease_keeps_the_lease(database_url, deck):
    @deck.handler()
    async def block() -> str:
        time.sleep(3.2)  # noqa: ASYNC251 - that is its purpose
        return "awake"

    async with open_stores(database_url) as stores, running(database_url, deck, lease=2.0) as runtime:
        worker = worker_of(runtime)
        submit = runtime.engine.jobs.submit_by_name
        blocking, other = await asyncio.gather(submit("block"), submit("turn", delay=0.1))
        assert await blocking.result(timeout=30) == "awake"
        assert await other.result(timeout=30) == "done"
        assert worker_of(runtime) == worker
        for job in (blocking, other):
            row = await stores.row(job.id)
            assert (row["attempt"], row["crashes"]) == (1, 0)


async def test_tasks_that_a_handler_leaves_behind_disturb_nobody(database_url, deck):
    left: list[asyncio.Task[None]] = []

    async def hang() -> None:
        await asyncio.Event().wait()

    async def break_down() -> None:
        await asyncio.sleep(0)
        raise RuntimeError("nobody waits for me")

    @deck.handler()
    async def leave() -> str:
        left.extend(asyncio.create_task(way()) for way in (hang, break_down))
        return "left"

    async with running(database_url, deck) as runtime:
        assert await (await runtime.engine.jobs.submit_by_name("leave")).result(timeout=30) == "left"
        await eventually(left[1].done)
        with pytest.raises(RuntimeError, match="nobody waits"):
            left[1].result()
        assert await (await runtime.engine.jobs.submit_by_name("turn")).result(timeout=30) == "done"
        left[0].cancel()


async def test_a_handler_that_hangs_for_ever_takes_its_own_slot_only_and_only_for_its_time_limit(database_url, deck):
    @deck.handler(timeout=0.2, max_attempts=1)
    async def hang() -> None:
        await asyncio.Event().wait()

    async with open_stores(database_url) as stores, running(database_url, deck, concurrency=2) as runtime:
        hanging = [await runtime.engine.jobs.submit_by_name("hang") for _ in range(4)]
        others = [await runtime.engine.jobs.submit_by_name("turn") for _ in range(10)]
        assert {await job.result(timeout=30) for job in others} == {"done"}

        async def over() -> bool:
            states = [(await stores.row(job.id))["state"] for job in hanging]
            return states == ["discarded"] * 4

        await eventually(over, within=10)
        assert runtime.engine.parts.executor.abandoned == 0
