"""One reading for everybody who asks at the same time."""

import asyncio

import pytest

from quarterdeck.engine.shared import Shared
from tests.support.waiting import eventually


class Source:
    """What is read: the number of the reading, by name. Each reading waits until it is let go."""

    def __init__(self):
        self.readings = []
        self.gates = []
        self.failure = None

    async def read(self, names):
        number = len(self.readings)
        self.readings.append(names)
        self.gates.append(asyncio.Event())
        await self.gates[number].wait()
        if self.failure is not None:
            raise self.failure
        return dict.fromkeys(names, number)

    async def let_go(self, number):
        await eventually(lambda: len(self.gates) > number)
        self.gates[number].set()


@pytest.fixture
def source():
    return Source()


async def test_who_asks_for_what_is_being_read_shares_the_reading(source):
    shared = Shared(source.read, 60)
    asked = [asyncio.create_task(shared.get(["a"])) for _ in range(100)]
    await source.let_go(0)
    assert await asyncio.gather(*asked) == [{"a": 0}] * 100
    assert source.readings == [["a"]]


async def test_who_asks_for_something_else_meanwhile_shares_the_next_one(source):
    shared = Shared(source.read, 60)
    first = asyncio.create_task(shared.get(["a"]))
    await eventually(lambda: source.readings)
    others = [asyncio.create_task(shared.get(names)) for names in (["b"], ["c", "a"], ["b", "d"])]
    await asyncio.sleep(0)
    await source.let_go(0)
    await source.let_go(1)
    assert await first == {"a": 0}
    assert await asyncio.gather(*others) == [{"b": 1}, {"c": 1, "a": 1}, {"b": 1, "d": 1}]
    assert source.readings == [["a"], ["a", "b", "c", "d"]]


async def test_a_reading_is_kept_for_its_time_and_no_longer(source):
    shared = Shared(source.read, 60)
    first = asyncio.create_task(shared.get(["a"]))
    await source.let_go(0)
    assert await first == {"a": 0}
    assert await shared.get(["a"]) == {"a": 0}
    anew = asyncio.create_task(shared.get(["a"], 0.0))
    await source.let_go(1)
    assert await anew == {"a": 1}


async def test_what_is_forgotten_is_read_anew_even_while_it_is_being_read(source):
    shared = Shared(source.read, 60)
    first = asyncio.create_task(shared.get(["a", "b"]))
    await eventually(lambda: source.readings)
    shared.forget("a")
    second = asyncio.create_task(shared.get(["a"]))
    await asyncio.sleep(0)
    await source.let_go(0)
    await source.let_go(1)
    assert (await first, await second) == ({"a": 0, "b": 0}, {"a": 1})
    assert await shared.get(["a", "b"]) == {"a": 1, "b": 0}


async def test_a_failure_reaches_all_who_wait_and_is_not_kept(source):
    shared = Shared(source.read, 60)
    source.failure = ValueError("no")
    asked = [asyncio.create_task(shared.get(["a"])) for _ in range(3)]
    await source.let_go(0)
    failures = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(failure) for failure in failures] == [ValueError] * 3
    source.failure = None
    again = asyncio.create_task(shared.get(["a"]))
    await source.let_go(1)
    assert await again == {"a": 1}


async def test_who_goes_away_takes_the_reading_from_nobody(source):
    shared = Shared(source.read, 60)
    first, second = (asyncio.create_task(shared.get(["a"])) for _ in range(2))
    await eventually(lambda: source.readings)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await source.let_go(0)
    assert await second == {"a": 0}


async def test_a_slow_reading_that_nobody_waits_for_any_more_is_still_the_only_one(source):
    shared = Shared(source.read, 60)
    impatient = asyncio.create_task(shared.get(["a"]))
    await eventually(lambda: source.readings)
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    others = [asyncio.create_task(shared.get([name])) for name in "bcd"]
    await asyncio.sleep(0)
    assert source.readings == [["a"]]
    await source.let_go(0)
    await source.let_go(1)
    assert await asyncio.gather(*others) == [{"b": 1}, {"c": 1}, {"d": 1}]
