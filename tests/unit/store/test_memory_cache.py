"""The cache inside the process holds what was asked for last, up to a number of bytes."""

import datetime as dt
import uuid

import pytest

from quarterdeck.store.memory import OVERHEAD, Memory
from quarterdeck.store.shelf import Version
from tests.support.tallies import Counted

AT = dt.datetime(2031, 1, 2, tzinfo=dt.UTC)
ENTRY = 100 + OVERHEAD


def version(number):
    return Version("default", uuid.UUID(int=number), 1, 3, AT)


@pytest.fixture
def counted():
    return Counted()


@pytest.fixture
def cache(counted):
    """Room for three results of 100 bytes."""
    return Memory(counted, limit=3 * ENTRY)


async def held(cache, numbers):
    return [number for number in numbers if cache._kept.get(version(number)) is not None]


async def test_what_was_put_is_there_and_nothing_else_is(cache, counted):
    cache.put(version(1), b"1")
    assert await cache.get(version(1)) == b"1"
    assert await cache.get(version(2)) is None
    assert (counted.reads, counted.writes) == ({"hit": 1, "miss": 1}, {"stored": 1})


async def test_what_nobody_asked_for_the_longest_goes_first(cache):
    for number in (1, 2, 3):
        cache.put(version(number), b"x" * 100)
    await cache.get(version(1))
    cache.put(version(4), b"x" * 100)
    assert await held(cache, range(5)) == [1, 3, 4]


async def test_it_never_holds_more_than_its_limit(cache):
    for number in range(100):
        cache.put(version(number % 7), b"x" * (number * 5 % 400))
        assert cache.gauges()["cache_bytes"][()] == sum(len(each) + OVERHEAD for each in cache._kept.values())
        assert cache.gauges()["cache_bytes"][()] <= 3 * ENTRY


async def test_what_is_larger_than_all_of_it_is_refused_and_pushes_nothing_out(cache, counted):
    cache.put(version(1), b"1")
    cache.put(version(2), b"x" * 3 * ENTRY)
    assert await held(cache, range(5)) == [1]
    assert counted.writes == {"stored": 1, "refused": 1}


async def test_the_same_version_counts_once(cache):
    for _ in range(10):
        cache.put(version(1), b"x" * 100)
    assert cache.gauges()["cache_bytes"][()] == ENTRY


async def test_nothing_is_left_after_its_end(cache):
    cache.put(version(1), b"1")
    await cache.close()
    assert cache.gauges()["cache_bytes"][()] == 0
    assert await cache.get(version(1)) is None
