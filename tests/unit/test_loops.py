"""What the event loop of the tests looks at."""

import asyncio
import gc
import warnings

import pytest

from tests.support.loops import CheckedLoop


async def test_a_call_from_another_thread_is_refused():
    loop = asyncio.get_running_loop()
    assert isinstance(loop, CheckedLoop)
    with pytest.raises(RuntimeError, match="Non-thread-safe operation"):
        await asyncio.to_thread(loop.call_soon, print)


async def test_a_coroutine_that_nobody_awaited_says_where_it_was_made():
    async def forgotten():
        pass

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        forgotten()
        gc.collect()
    assert "never awaited" in str(told[0].message)
    assert "Coroutine created at" in str(told[0].message)
    assert __file__ in str(told[0].message)


async def test_a_future_costs_no_walk_through_the_stack():
    assert asyncio.get_running_loop().create_future()._source_traceback is None
