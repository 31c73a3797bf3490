import asyncio
import gc

import pytest

from quarterdeck.domain.errors import Unavailable
from quarterdeck.engine import calls


@pytest.fixture
async def complaints():
    """What the loop is told of that nobody heard."""
    heard = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context["message"]))
    return heard


async def test_a_statement_that_fails_after_its_caller_was_told_is_no_news(monkeypatch, complaints):
    monkeypatch.setattr(calls, "CALL_TIMEOUT", 0.01)
    told, over = asyncio.Event(), asyncio.Event()

    async def statement():
        try:
            await told.wait()
            raise TimeoutError
        finally:
            over.set()

    with pytest.raises(Unavailable):
        await calls.Calls().call(statement())
    told.set()
    await over.wait()
    await asyncio.sleep(0)
    gc.collect()
    assert complaints == []


async def test_a_statement_whose_caller_has_gone_runs_to_its_end(complaints):
    began, end = asyncio.Event(), asyncio.Event()
    ended = []

    async def statement():
        began.set()
        await end.wait()
        ended.append(True)
        raise OSError("gone")

    guarded = calls.Calls()
    caller = asyncio.create_task(guarded.call(statement()))
    await began.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    end.set()
    await guarded.close()
    gc.collect()
    assert (ended, complaints) == ([True], [])
