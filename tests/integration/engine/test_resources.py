"""What handlers share is opened before jobs run and closed after them, whatever it does."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from quarterdeck import Quarterdeck
from quarterdeck.bootstrap import Runtime
from quarterdeck.config import ConfigError, Settings
from quarterdeck.engine import resources as module
from quarterdeck.engine.resources import ResourceFailure, Resources
from tests.support.waiting import eventually

LIFE = []


def maker(name, *, opening=None, closing=None):
    @asynccontextmanager
    async def make():
        LIFE.append(f"opens {name}")
        if opening is not None:
            raise opening
        try:
            yield name.upper()
        finally:
            LIFE.append(f"closes {name}")
            if closing is not None:
                await closing()

    return make


@pytest.fixture(autouse=True)
def life():
    LIFE.clear()


async def test_they_are_opened_in_order_and_closed_in_the_opposite_one():
    shared = {"given": "by hand"}
    resources = Resources(shared, {"a": maker("a"), "given": maker("given"), "b": maker("b")})
    await resources.open()
    assert shared == {"given": "by hand", "a": "A", "b": "B"}
    await resources.close()
    await resources.close()
    assert LIFE == ["opens a", "opens b", "closes b", "closes a"]
    assert shared == {"given": "by hand"}


async def test_one_that_cannot_be_opened_is_named_and_those_before_it_are_closed():
    shared = {}
    resources = Resources(shared, {"a": maker("a"), "b": maker("b", opening=OSError("no route")), "c": maker("c")})
    with pytest.raises(ResourceFailure, match="resource 'b' cannot be opened: OSError: no route"):
        await resources.open()
    assert (LIFE, shared) == (["opens a", "opens b", "closes a"], {})
    await resources.close()


async def test_one_task_opens_and_closes():
    tasks = []

    @asynccontextmanager
    async def make():
        tasks.append(asyncio.current_task())
        yield
        tasks.append(asyncio.current_task())

    resources = Resources({}, {"a": make})
    await asyncio.create_task(resources.open())
    await asyncio.create_task(resources.close())
    assert tasks[0] is tasks[1]


async def test_a_close_that_raises_stops_nobody(caplog):
    async def fail():
        raise ValueError("already closed")

    resources = Resources({}, {"a": maker("a"), "b": maker("b", closing=fail)})
    await resources.open()
    await resources.close()
    assert LIFE[-2:] == ["closes b", "closes a"]
    assert "resource.close_failed" in caplog.text
    assert "already closed" in caplog.text


async def test_a_close_that_hangs_is_interrupted(monkeypatch, caplog):
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.01)
    resources = Resources({}, {"a": maker("a"), "b": maker("b", closing=lambda: asyncio.sleep(60))})
    await resources.open()
    await resources.close()
    assert LIFE[-2:] == ["closes b", "closes a"]
    assert "resource.close_interrupted" in caplog.text


async def test_one_that_takes_long_to_open_is_named_meanwhile(monkeypatch, caplog):
    monkeypatch.setattr(module, "SLOW", 0.01)
    go_on = asyncio.Event()

    @asynccontextmanager
    async def slow():
        await go_on.wait()
        yield

    resources = Resources({}, {"a": maker("a"), "slow": slow})
    opening = asyncio.create_task(resources.open())
    await eventually(lambda: "resource.opens_slowly name='slow'" in caplog.text)
    go_on.set()
    await opening
    await resources.close()
    assert "name='a'" not in caplog.text


async def test_an_opening_under_way_is_given_up():
    @asynccontextmanager
    async def slow():
        await asyncio.sleep(60)
        yield

    resources = Resources({}, {"a": maker("a"), "slow": slow})
    opening = asyncio.create_task(resources.open())
    await asyncio.sleep(0.01)
    opening.cancel()
    await asyncio.wait({opening})
    await resources.close()
    assert LIFE == ["opens a", "closes a"]


def test_a_generator_or_a_context_manager_makes_one_under_a_name_of_its_own():
    deck = Quarterdeck()

    @deck.resource()
    async def first():
        yield 1

    deck.resource("second")(maker("second"))
    assert list(deck.resource_makers) == ["first", "second"]
    with pytest.raises(ValueError, match="two resources of the name 'first'"):
        deck.resource("first")(maker("first"))

    async def returns():
        return 1

    with pytest.raises(TypeError, match="resource 'returns': `yield` it"):
        deck.resource()(returns)


def test_what_can_make_no_resource_is_told_when_it_is_registered():
    deck = Quarterdeck()

    def plain_generator():
        yield 1

    with pytest.raises(TypeError, match=r"resource 'plain_generator': .* `async def`"):
        deck.resource()(plain_generator)
    with pytest.raises(TypeError, match="resource 'client': give a function"):
        deck.resource("client")(AsyncExitStack())
    assert not deck.resource_makers


def test_parentheses_that_are_forgotten_are_told():
    deck = Quarterdeck()

    async def bare():
        yield 1

    with pytest.raises(TypeError, match=r"@deck\.resource\(\), with parentheses"):
        deck.resource(bare)
    with pytest.raises(TypeError, match=r"@deck\.handler\(\), with parentheses"):
        deck.handler(bare)


async def test_a_process_that_runs_no_jobs_opens_none(database_url):
    deck = Quarterdeck()
    deck.resource("a")(maker("a"))
    for role, opened in (("web", []), ("worker", ["opens a"])):
        runtime = Runtime(Settings(database_url=database_url, role=role), deck)
        await runtime.start()
        assert opened == LIFE
        await runtime.stop(0)
    assert LIFE == ["opens a", "closes a"]


async def test_a_service_does_not_start_without_what_its_handlers_need(database_url):
    deck = Quarterdeck()
    deck.resource("a")(maker("a", opening=OSError("no route")))
    with pytest.raises(ConfigError, match="resource 'a' cannot be opened: OSError: no route"):
        await Runtime(Settings(database_url=database_url), deck).start()
