"""Memcached that is killed, frozen, slow, lying, or full of foreign values: no wrong answer, and no waiting."""

import asyncio
import contextlib
import datetime as dt
import os
import random
import re
import socket
import time
import uuid

import psutil
import pytest

from quarterdeck.store import memcached as memcached_module
from quarterdeck.store import memcached_server
from quarterdeck.store.breaker import FAILURES, LONGEST_PAUSE
from quarterdeck.store.memcached import Memcached
from quarterdeck.store.memcached_server import MemcachedServer, Unusable
from quarterdeck.store.sealer import HEAD, MAX_SEALED
from quarterdeck.store.shelf import Version
from tests.support.bad_memcached import Delay, answering, delaying
from tests.support.memcached import MemcachedProcess
from tests.support.tallies import Counted
from tests.support.waiting import eventually

SECRET = b"s" * 32
AT = dt.datetime(2031, 1, 2, tzinfo=dt.UTC)
ADDED = 0.2
"""Seconds that a cache may cost here, whatever it is like; without limits it would be half a second, or for ever."""


def version(number, tenant="default", generation=1):
    return Version(tenant, uuid.UUID(int=number), generation, 3, AT)


def result_of(one):
    return f"{one.tenant}:{one.job_id}:{one.generation}".encode() * 300


@pytest.fixture
def counted():
    return Counted()


@pytest.fixture
def memcached():
    with MemcachedProcess() as process:
        yield process


@pytest.fixture
def patient(monkeypatch):
    """Limits of time that no busy machine comes near, where they are not what is tested."""
    monkeypatch.setattr(memcached_server, "SLOT_TIMEOUT", 5.0)
    monkeypatch.setattr(memcached_server, "OPERATION_TIMEOUT", 5.0)


@pytest.fixture
def lenient(monkeypatch):
    """A limit of time that a busy machine seldom comes near, where a limit is what is tested."""
    monkeypatch.setattr(memcached_server, "OPERATION_TIMEOUT", ADDED / 2)


@contextlib.asynccontextmanager
async def opened(counted, *ports, secret=SECRET):
    cache = Memcached([("127.0.0.1", port) for port in ports], secret, counted)
    try:
        yield cache
    finally:
        await cache.close()


@pytest.fixture
async def cache(memcached, counted):
    async with opened(counted, memcached.port) as cache:
        yield cache


async def kept(cache, *versions):
    """Put results until they are there, also on a busy machine, where a write may come too late."""

    async def all_there():
        for each in versions:
            if await cache.get(each) is None:
                cache.put(each, result_of(each))
        await asyncio.gather(*cache._writes)
        return all([await cache.get(each) is not None for each in versions])

    await eventually(all_there, within=30)


async def asked(cache, seconds):
    """Ask and put for a while; every answer has to be right. Returns how long the single looks took."""
    took = []
    until = time.monotonic() + seconds
    for number in range(100_000):
        one = version(number % 5)
        began = time.monotonic()
        found = await cache.get(one)
        took.append(time.monotonic() - began)
        assert found in (None, result_of(one))
        cache.put(one, result_of(one))
        await asyncio.sleep(0.002)
        if time.monotonic() > until:
            break
    return sorted(took)


def assert_quick(took):
    assert took[int(len(took) * 0.9)] <= ADDED, took[-20:]


@pytest.mark.usefixtures("patient")
async def test_what_one_process_puts_another_one_gets(cache, memcached, counted):
    await kept(cache, version(1))
    async with opened(counted, memcached.port) as other:
        assert await other.get(version(1)) == result_of(version(1))
        assert await other.get(version(2)) is None
    assert counted.reads["poisoned"] == 0


# What is believed


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("tenant", ["é" * 200, "a b", "x\r\nflush_all\r\n", "😀" * 250])
async def test_nothing_of_a_name_or_a_value_is_a_command(cache, memcached, tenant):
    evil = version(1, tenant)
    value = b"\r\nset admin 0 0 1\r\nx\r\n"
    cache.put(evil, value)
    await asyncio.gather(*cache._writes)
    assert await cache.get(evil) == value
    keys = memcached.keys()
    assert len(keys) == 1
    assert re.fullmatch("v1:[0-9a-f]{64}", keys[0])
    assert memcached.statistic("cmd_flush") == 0


@pytest.mark.usefixtures("patient")
async def test_what_others_wrote_is_a_miss_and_is_written_anew(cache, memcached, counted):
    mine, theirs, older = version(1, "mine"), version(1, "theirs"), version(1, "mine", generation=0)
    await kept(cache, mine, theirs, older)
    key = cache._sealer.key(mine).decode()
    envelopes = {each: memcached.fetch(cache._sealer.key(each).decode()) for each in (mine, theirs, older)}
    poisons = [b"", b"garbage", b"\x01" * HEAD, envelopes[mine][HEAD:], envelopes[theirs], envelopes[older]]
    poisons += [envelopes[mine][:-1], envelopes[mine] + b"x", b"\x02" + envelopes[mine][1:], b"x" * 600_000]
    for number, poison in enumerate(poisons, 1):
        memcached.store(key, poison)
        assert await cache.get(mine) is None
        assert counted.reads["poisoned"] == number
    assert not cache.server_of(key.encode()).breaker.open
    await kept(cache, mine)
    assert await cache.get(mine) == result_of(mine)


@pytest.mark.usefixtures("patient")
async def test_another_installation_on_the_same_server_is_another_world(cache, memcached, counted):
    await kept(cache, version(1))
    async with opened(counted, memcached.port, secret=b"t" * 32) as other:
        assert await other.get(version(1)) is None
        await kept(other, version(1))
    assert len(memcached.keys()) == 2


# Sizes


@pytest.mark.usefixtures("patient")
async def test_a_result_up_to_the_limit_is_kept_and_a_larger_one_is_not_sent(cache, memcached, counted):
    largest = b"x" * (MAX_SEALED - HEAD)

    async def there():
        cache.put(version(1), largest)
        await asyncio.gather(*cache._writes)
        return await cache.get(version(1)) == largest

    await eventually(there)
    before = memcached.statistic("cmd_set")
    cache.put(version(2), largest + b"x")
    await asyncio.gather(*cache._writes)
    assert counted.writes["refused"] == 1
    assert memcached.statistic("cmd_set") == before


@pytest.mark.usefixtures("patient")
async def test_a_server_with_a_lower_limit_refuses_and_is_not_left_alone(counted):
    with MemcachedProcess("-I", "512k") as small:
        async with opened(counted, small.port) as cache:
            for number in range(10):
                cache.put(version(number), b"x" * (MAX_SEALED - HEAD))
                await asyncio.gather(*cache._writes)
            assert counted.writes["refused"] >= 8
            assert not cache._servers[0].breaker.open
            await kept(cache, version(1))


# Several servers


@pytest.mark.usefixtures("patient")
async def test_every_server_has_its_share_and_a_dead_one_loses_only_its_own(counted):
    with MemcachedProcess() as one, MemcachedProcess() as two, MemcachedProcess() as three:
        ports = [one.port, two.port, three.port]
        versions = [version(number) for number in range(60)]
        async with opened(counted, *ports) as cache, opened(counted, *reversed(ports)) as other:
            await kept(cache, *versions)
            shares = [len(each.keys()) for each in (one, two, three)]
            assert sum(shares) == 60
            assert min(shares) >= 5
            assert all([await other.get(each) is not None for each in versions]), "the order of the servers counts"
            two.kill()
            found = [await cache.get(each) for each in versions]
            assert found.count(None) == shares[1]
        async with opened(counted, one.port, three.port) as fewer:
            lost = [each for each in versions if await fewer.get(each) is None]
            assert len(lost) == shares[1], "the keys of those that stay have moved"


# Trouble


@pytest.mark.usefixtures("patient")
async def test_a_killed_server_costs_nothing_and_is_used_again_when_it_is_back(cache, memcached, caplog):
    caplog.set_level(0)
    await kept(cache, version(1))
    memcached.kill()
    assert_quick(await asked(cache, 0.5))
    assert cache._servers[0].breaker.open
    assert cache.gauges() == {"cache_server_left_alone": {(memcached.address,): 1.0}}
    memcached.start()
    began = time.monotonic()
    await kept(cache, version(1))
    assert time.monotonic() - began < 4 * LONGEST_PAUSE
    assert cache.gauges() == {"cache_server_left_alone": {(memcached.address,): 0.0}}
    said = [record.getMessage() for record in caplog.records if "cache.server" in record.getMessage()]
    assert len(said) == 2, said


@pytest.mark.usefixtures("lenient")
async def test_a_frozen_server_is_left_alone_soon_and_used_again_soon(cache, memcached, counted):
    await kept(cache, version(1))
    memcached.freeze()
    try:
        failed = counted.reads["error"]
        while not cache._servers[0].breaker.open:  # what was under way when it froze may still be answered
            await cache.get(version(1))
            assert counted.reads["error"] <= failed + FAILURES
        took = await asked(cache, 1)
    finally:
        memcached.thaw()
    assert_quick(took)
    assert counted.reads["open"] > counted.reads["error"]
    began = time.monotonic()
    await kept(cache, version(1))
    assert time.monotonic() - began < 4 * LONGEST_PAUSE


@pytest.mark.usefixtures("lenient")
async def test_a_slow_server_is_left_alone_until_it_is_quick_again(memcached, counted):
    delay = Delay(0.0)
    async with delaying(memcached.port, delay) as port, opened(counted, port) as cache:
        await kept(cache, version(1))
        delay.seconds = 0.5
        assert_quick(await asked(cache, 1))
        assert cache._servers[0].breaker.open
        delay.seconds = 0.0
        began = time.monotonic()
        await kept(cache, version(1))
        assert time.monotonic() - began < 4 * LONGEST_PAUSE


async def test_what_a_silent_server_does_not_take_is_thrown_away_with_its_connection(monkeypatch):
    """A connection that is only closed waits until everything is sent, which is for ever."""
    with socket.socket() as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.bind(("127.0.0.1", 0))
        silent.listen(10)
        port = silent.getsockname()[1]

        def connections():
            return [each for each in psutil.Process().net_connections("tcp") if each.raddr and each.raddr.port == port]

        server = MemcachedServer("127.0.0.1", port)
        monkeypatch.setattr(memcached_server, "OPERATION_TIMEOUT", 0.3)
        more_than_a_loopback_takes = b"x" * 16_000_000
        with pytest.raises(Unusable, match="error"):
            await server.run(lambda client: client.store(b"key", more_than_a_loopback_takes, 1))
        silent.setblocking(False)
        peer, _ = silent.accept()  # it was there
        await eventually(lambda: not connections())
        peer.close()
        await server.close()


async def say(writer, *pieces, pause=0.0):
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause)


ANSWERS = {
    "garbage": lambda _: [b"what?\r\n"],
    "binary": lambda _: [bytes(range(256))],
    "server error": lambda _: [b"SERVER_ERROR out of memory\r\n"],
    "nothing ever ends": lambda _: [b"x" * 300_000],
    "half a line": lambda _: [b"VALUE "],
    "a value cut short": lambda line: [b"VALUE " + line.split()[1] + b" 0 5000\r\nabc\r\nEND\r\n"],
    "a value without end": lambda line: [b"VALUE " + line.split()[1] + b" 0 3\r\nabc\r\n"],
    "no length": lambda line: [b"VALUE " + line.split()[1] + b" 0\r\n"],
    "a negative length": lambda line: [b"VALUE " + line.split()[1] + b" 0 -7\r\nabc\r\nEND\r\n"],
    "a huge length": lambda line: [b"VALUE " + line.split()[1] + b" 0 99999999999\r\n", b"x" * 100_000],
    "flags": lambda line: [b"VALUE " + line.split()[1] + b" 7 3\r\nabc\r\nEND\r\n"],
    "another key": lambda _: [b"VALUE v1:0 0 3\r\nabc\r\nEND\r\n"],
    "twice": lambda line: [(b"VALUE " + line.split()[1] + b" 0 3\r\nabc\r\n") * 2 + b"END\r\n"],
    "not mine": lambda line: [b"VALUE " + line.split()[1] + b" 0 3\r\nabc\r\nEND\r\n"],
    "too much": lambda _: [b"END\r\nEND\r\nSTORED\r\nVALUE a 0 1\r\n"],
    "stored": lambda _: [b"STORED\r\n"],
}


@pytest.mark.parametrize("ends", [False, True], ids=["and goes on", "and hangs up"])
@pytest.mark.parametrize("lie", ANSWERS)
async def test_a_server_that_lies_is_not_believed_and_stops_nobody(lie, ends, counted):
    async def answer(line, writer):
        if line.split()[:1] in ([b"get"], [b"set"]):
            await say(writer, *ANSWERS[lie](line))
            if ends:
                writer.transport.abort()

    async with answering(answer) as port, opened(counted, port) as cache:
        for number in range(6):
            began = time.monotonic()
            assert await cache.get(version(number)) is None
            assert time.monotonic() - began < 5
            cache.put(version(number), b"1" * 10)
            await asyncio.gather(*cache._writes)
    assert counted.reads["hit"] == 0


# What is not there for aiomcache


@pytest.mark.usefixtures("patient")
async def test_operations_that_are_cancelled_at_any_moment_leave_nothing_behind(memcached, monkeypatch):
    """F66: an answer that nobody waits for any more must not become that of the next one."""
    monkeypatch.setattr(memcached_server, "CONNECTIONS", 8)
    rounds, callers = int(os.environ.get("QD_TEST_CACHE_CANCELS", "3000")) // 20, 20
    noise = random.Random(7)
    async with delaying(memcached.port, Delay(0.001)) as port:
        server = MemcachedServer("127.0.0.1", port)
        for number in range(callers):
            memcached.store(f"number-{number}", str(number * 1000).encode())
            memcached.store(f"text-{number}", b"t%d" % number)
        wrong, done, cut = [], 0, 0

        async def caller(number):
            nonlocal done, cut
            for turn in range(rounds):
                text = turn % 3
                key = b"%s-%d" % (b"text" if text else b"number", number)
                try:
                    async with asyncio.timeout(noise.choice([noise.uniform(0, 0.003), 1.0])):
                        if text:
                            found = await server.run(lambda client, key=key: client.get(key))
                        else:
                            found = await server.run(lambda client, key=key: client.incr(key, 0))
                except TimeoutError:
                    cut += 1
                    continue
                done += 1
                if found != (b"t%d" % number if text else number * 1000):
                    wrong.append((key, found))

        await asyncio.gather(*map(caller, range(callers)))
        await server.close()
    assert wrong == []
    assert min(done, cut) > 100, (done, cut)


@pytest.mark.usefixtures("patient")
async def test_who_asks_for_the_same_at_the_same_time_asks_once(cache, memcached):
    await kept(cache, version(1))
    before = memcached.statistic("cmd_get")
    found = await asyncio.gather(*(cache.get(version(1)) for _ in range(100)))
    assert set(found) == {result_of(version(1))}
    assert memcached.statistic("cmd_get") == before + 1


@pytest.mark.usefixtures("patient")
async def test_who_goes_away_takes_nobody_along(cache):
    await kept(cache, version(1))
    first, second = (asyncio.create_task(cache.get(version(1))) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == result_of(version(1))


@pytest.mark.usefixtures("patient")
async def test_it_has_a_few_connections_however_many_ask_and_none_after_its_end(cache, memcached):
    numbers = range(200)
    await kept(cache, *map(version, numbers[:20]))
    await asyncio.gather(*(cache.get(version(number)) for number in numbers))
    assert memcached.statistic("curr_connections") <= 4 + 2
    await cache.close()
    await eventually(lambda: memcached.statistic("curr_connections") <= 2)
    assert await cache.get(version(1)) is None
    cache.put(version(1), b"1")


async def test_writes_that_pile_up_are_dropped(cache, counted):
    for number in range(3 * memcached_module.MAX_WRITES):
        cache.put(version(number), result_of(version(number)))
    assert counted.writes["busy"] >= 2 * memcached_module.MAX_WRITES
    await asyncio.gather(*cache._writes)
