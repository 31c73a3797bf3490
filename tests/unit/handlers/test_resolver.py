import asyncio
import socket
import threading

import pytest

from quarterdeck.handlers import resolver as module
from quarterdeck.handlers.resolver import Resolver
from tests.support.waiting import eventually


async def test_the_system_is_asked():
    assert "127.0.0.1" in await Resolver()("localhost", 80)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "a" * 64 + ".test", ""])
async def test_a_name_that_nobody_knows_is_an_error(host, monkeypatch):
    if not host:
        monkeypatch.setattr(module.socket, "getaddrinfo", lambda *_, **__: 1 / 0)
    with pytest.raises(OSError, match=r"."):
        await Resolver()(host, 80)


@pytest.fixture
def slow(monkeypatch):
    """A name server that is silent until it is let go; whom it was asked for."""
    monkeypatch.setattr(module, "AT_ONCE", 2)
    go, asked = threading.Event(), []

    def silent(host, port, **_):
        asked.append(host.decode())
        go.wait(10)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))] * 2

    monkeypatch.setattr(module.socket, "getaddrinfo", silent)
    yield go, asked
    go.set()


async def test_a_silent_name_server_holds_up_look_ups_only_and_no_more_than_some_at_a_time(slow):
    go, asked = slow
    resolve = Resolver()
    tasks = [asyncio.create_task(resolve(host, 80)) for host in ("a", "b", "c")]
    await eventually(lambda: len(asked) == 2)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 8) == "free"
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    await asyncio.sleep(0.02)
    assert len(asked) == 2, "its thread is still under way"
    go.set()
    assert await asyncio.gather(*tasks[1:]) == [["192.0.2.1"]] * 2
    assert len(asked) == 3


async def test_where_no_thread_can_be_had_the_turn_comes_back(monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 1)
    resolve = Resolver()
    with monkeypatch.context() as patch:
        patch.setattr(module.threading.Thread, "start", lambda _: (_ for _ in ()).throw(RuntimeError("can't start")))
        for _ in range(3):
            with pytest.raises(OSError, match="can't start"):
                await asyncio.wait_for(resolve("localhost", 80), 10)
    assert await resolve("localhost", 80)
