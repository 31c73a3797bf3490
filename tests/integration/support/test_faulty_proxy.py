"""Every fault of the proxy does what it says, and only that."""

import asyncio
import socket
from contextlib import asynccontextmanager, suppress
from time import monotonic
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.support.faults.control import Count, Heal, ProxyProcess, Reset, Shut, Silence, SwitchOff, SwitchOn
from tests.support.faults.messages import Message, Splitter
from tests.support.faults.proxy import FaultyProxy
from tests.support.faults.rules import BlackHole, Delay, LoseReply, LoseRequest, Refuse
from tests.support.waiting import eventually

GONE = (asyncpg.ConnectionDoesNotExistError, asyncpg.InterfaceError, ConnectionError)
INSERT = "insert into t values ($1)"


@pytest.fixture
async def direct(empty_database):
    """A connection past the proxy, to a database with an empty table `t`."""
    connection = await asyncpg.connect(empty_database)
    await connection.execute("create table t (n integer)")
    yield connection
    await connection.close()


@pytest.fixture
async def proxy(empty_database, direct):
    async with FaultyProxy(empty_database) as proxy:
        yield proxy


@asynccontextmanager
async def client(proxy, name="test", **options):
    connection = await asyncpg.connect(proxy.dsn, server_settings={"application_name": name}, **options)
    try:
        yield connection
    finally:
        connection.terminate()


async def stored(direct):
    return [row["n"] for row in await direct.fetch("select n from t order by n")]


async def test_without_a_fault_everything_passes_unchanged(proxy, direct):
    async with client(proxy) as connection:
        big = "ü" * 3_000_000
        assert await connection.fetchval("select $1::text", big) == big
        assert await connection.execute("select 1; select 2") == "SELECT 1"
        async with connection.transaction():
            await connection.executemany(INSERT, [(n,) for n in range(1000)])
            assert len([row async for row in connection.cursor("select n from t", prefetch=7)]) == 1000
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.fetchval("select 1 / $1::integer", 0)
        heard = asyncio.Event()
        await connection.add_listener("topic", lambda *_: heard.set())
        await direct.execute("notify topic")
        await asyncio.wait_for(heard.wait(), 5)
        await connection.remove_listener("topic", lambda *_: None)
        assert await connection.fetchval("select 42") == 42
    assert len(await stored(direct)) == 1000
    assert proxy.faults.injected == {}


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_a_statement_whose_reply_is_lost_has_taken_effect(proxy, direct, ending):
    async with client(proxy) as connection:
        await connection.execute(INSERT, 1)
        switch = proxy.switch_on(LoseReply(statement="insert into t", ending=ending))
        with pytest.raises(GONE):
            await connection.execute(INSERT, 2)
        assert connection.is_closed()
    assert await stored(direct) == [1, 2]
    assert (switch.hits, proxy.faults.injected) == (1, {"LoseReply": 1})


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_a_statement_whose_request_is_lost_has_not_taken_effect(proxy, direct, ending):
    async with client(proxy) as connection:
        proxy.switch_on(LoseRequest(statement="insert into t", ending=ending))
        with pytest.raises(GONE):
            await connection.execute(INSERT, 1)
        with pytest.raises(GONE):
            async with client(proxy) as another:
                await another.execute("insert into t values (2)")
    assert await stored(direct) == []


@pytest.mark.parametrize("simple", [True, False], ids=["simple", "prepared"])
async def test_a_lost_reply_can_leave_the_connection_open_and_silent(proxy, direct, simple):
    async with client(proxy) as connection:
        proxy.switch_on(LoseReply(statement="insert into t", ending="silence", times=1))
        with pytest.raises(TimeoutError):
            await connection.execute(*(["insert into t values (1)"] if simple else [INSERT, 1]), timeout=1)
        assert await stored(direct) == [1]
        async with client(proxy) as another:
            assert await another.fetchval("select 1") == 1


async def test_a_commit_whose_reply_is_lost_has_taken_effect(proxy, direct):
    async with client(proxy) as connection:
        proxy.switch_on(LoseReply(statement="COMMIT"))
        with pytest.raises(GONE):
            await _insert_both(connection)
    assert await stored(direct) == [1, 2]


async def test_a_reply_lost_within_a_transaction_undoes_it(proxy, direct):
    async with client(proxy) as connection:
        proxy.switch_on(LoseReply(statement="insert into t"))
        with pytest.raises(GONE):
            await _insert_both(connection)
    assert await stored(direct) == []


async def _insert_both(connection):
    async with connection.transaction():
        await connection.execute(INSERT, 1)
        await connection.execute(INSERT, 2)


async def test_the_nth_reply_is_lost_and_as_many_as_were_asked_for(proxy, direct):
    switch = proxy.switch_on(LoseReply(statement=INSERT, skip=2, times=2))
    outcomes = []
    for n in range(6):
        async with client(proxy) as connection:
            try:
                await connection.execute(INSERT, n)
                outcomes.append("answered")
            except GONE:
                outcomes.append("lost")
    assert outcomes == ["answered", "answered", "lost", "lost", "answered", "answered"]
    assert await stored(direct) == [0, 1, 2, 3, 4, 5]
    assert (switch.hits, switch.passed) == (2, 6)


async def test_a_prepared_statement_is_known_by_its_text_each_time_it_runs(proxy, direct):
    async with client(proxy, statement_cache_size=2) as connection:
        insert = await connection.prepare(INSERT)
        for n in range(3):
            await insert.fetch(n)
            await connection.fetchval(f"select {n}")  # pushes others out of the cache: names come and go
        proxy.switch_on(LoseReply(statement=INSERT))
        await connection.fetchval("select 3")
        with pytest.raises(GONE):
            await insert.fetch(3)
    assert await stored(direct) == [0, 1, 2, 3]


async def test_only_connections_of_the_named_application_are_hit(proxy, direct):
    proxy.switch_on(LoseReply(application="worker", statement="insert"))
    async with client(proxy, "web") as web, client(proxy, "worker-1") as worker:
        await web.execute(INSERT, 1)
        with pytest.raises(GONE):
            await worker.execute(INSERT, 2)
        await eventually(lambda: proxy.connections == ["web"])
    assert await stored(direct) == [1, 2]


async def _pattern(dsn, seed):
    async with FaultyProxy(dsn, seed=seed) as proxy:
        proxy.switch_on(LoseReply(statement="insert", probability=0.3))
        proxy.switch_on(LoseRequest(statement="insert", probability=0.3))
        pattern = ""
        for n in range(12):
            async with client(proxy) as connection:
                try:
                    await connection.execute(INSERT, n)
                    pattern += "."
                except GONE:
                    pattern += "x"
        return pattern, dict(proxy.faults.injected)


async def test_the_same_seed_hits_the_same_statements(empty_database, direct):
    first = await _pattern(empty_database, 1)
    again = await _pattern(empty_database, 1)
    other = await _pattern(empty_database, 2)
    assert first == again != other
    assert set(first[0]) == {".", "x"}
    assert sum(first[1].values()) == first[0].count("x")
    lost = 36 - len(await stored(direct))
    assert lost == sum(injected.get("LoseRequest", 0) for _, injected in (first, again, other)) > 0


@pytest.mark.parametrize("way", ["to_server", "to_client"])
async def test_a_delay_holds_one_way_back(proxy, way):
    async with client(proxy) as connection:
        await connection.fetchval("select 1")
        switch = proxy.switch_on(Delay(**{way: 0.15}, jitter=0.05))
        began = monotonic()
        await connection.fetchval("select 1")
        assert monotonic() - began >= 0.15
        assert switch.hits == 1
        switch.off()
        await connection.fetchval("select 1")
        assert switch.hits == 1


async def test_a_black_hole_to_the_server_swallows_what_is_sent(proxy, direct):
    async with client(proxy) as connection:
        await connection.execute(INSERT, 1)
        hole = proxy.switch_on(BlackHole(to_client=False))
        with pytest.raises(TimeoutError):
            await connection.execute(INSERT, 2, timeout=0.2)
        assert hole.hits
        hole.off()
        async with client(proxy) as another:
            await another.execute(INSERT, 3)
    assert await stored(direct) == [1, 3]


async def test_a_black_hole_to_the_client_swallows_only_the_answer(proxy, direct):
    async with client(proxy) as connection:
        hole = proxy.switch_on(BlackHole(to_server=False))
        query = asyncio.create_task(connection.execute("insert into t values (1)"))
        await eventually(lambda: _holds(direct, [1]))
        hole.off()
        # The connection lost bytes: it stays silent, although the way is free again.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(query, 0.2)


async def _holds(direct, numbers):
    return await stored(direct) == numbers


async def test_an_unread_black_hole_only_holds_bytes_back(proxy, direct):
    async with client(proxy) as connection:
        hole = proxy.switch_on(BlackHole(unread=True))
        query = asyncio.create_task(connection.fetchval("insert into t values (1) returning n"))
        done, _ = await asyncio.wait([query], timeout=0.2)
        assert not done
        assert await stored(direct) == []
        hole.off()
        assert await query == 1
    assert await stored(direct) == [1]


async def test_a_black_hole_takes_new_connections_and_does_not_answer(proxy):
    hole = proxy.switch_on(BlackHole())
    with pytest.raises(TimeoutError):
        await asyncpg.connect(proxy.dsn, timeout=0.2)
    hole.off()
    async with client(proxy) as connection:
        assert await connection.fetchval("select 1") == 1


async def test_a_client_that_leaves_a_black_hole_is_missed_by_the_server_until_it_is_off(proxy, direct):
    sessions = "select count(*) from pg_stat_activity where application_name = 'leaver'"
    async with client(proxy, "leaver"):
        assert await direct.fetchval(sessions) == 1
        hole = proxy.switch_on(BlackHole())
    await asyncio.sleep(0.1)
    assert await direct.fetchval(sessions) == 1
    hole.off()

    async def left():
        return await direct.fetchval(sessions) == 0

    await eventually(left)


async def test_a_reset_hits_the_open_connections_of_an_application(proxy):
    async with client(proxy, "a") as first, client(proxy, "b") as second:
        query = asyncio.create_task(first.execute("select pg_sleep(30)"))
        await eventually(lambda: proxy.connections == ["a", "b"])
        await asyncio.sleep(0)
        assert proxy.reset("a") == 1
        with pytest.raises(GONE):
            await query
        assert await second.fetchval("select 1") == 1
    assert proxy.faults.injected["reset"] == 1


async def test_connections_can_be_left_half_open_while_new_ones_are_well(proxy, direct):
    async with client(proxy, "a") as first, client(proxy, "b") as second:
        assert proxy.silence("a") == 1
        with pytest.raises(TimeoutError):
            await first.execute(INSERT, 1, timeout=0.2)
        await second.execute(INSERT, 2)
        async with client(proxy, "a") as another:
            await another.execute(INSERT, 3)
    assert await stored(direct) == [2, 3]


async def test_what_is_cut_by_a_reset_gets_a_reset(proxy):
    with socket.create_connection(("127.0.0.1", urlsplit(proxy.dsn).port)) as raw:
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        await eventually(lambda: proxy.connections == [""])
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(loop.sock_recv(raw, 1), 5)


async def test_a_shut_proxy_refuses_connections_until_it_is_open_again(proxy):
    async with client(proxy) as connection:
        await proxy.shut()
        with pytest.raises(ConnectionRefusedError):
            await asyncpg.connect(proxy.dsn)
        assert await connection.fetchval("select 1") == 1
        await proxy.open()
        async with client(proxy) as another:
            assert await another.fetchval("select 1") == 1


async def test_a_refusal_cuts_new_connections_of_an_application(proxy):
    switch = proxy.switch_on(Refuse(application="worker"))
    with pytest.raises(GONE):
        async with client(proxy, "worker"):
            pass
    async with client(proxy, "web"):
        pass
    assert switch.hits == 1


async def test_a_refusal_can_speak_for_the_server(proxy):
    proxy.switch_on(Refuse(sqlstate="53300"))
    with pytest.raises(asyncpg.TooManyConnectionsError, match="refused by the link"):
        await asyncpg.connect(proxy.dsn)


async def test_a_cancel_request_finds_its_statement_and_shares_the_faults_of_its_connection(proxy, direct):
    running = "select count(*) from pg_stat_activity where query like '%pg_sleep(31)' and state = 'active'"
    async with client(proxy, "impatient") as connection:
        with pytest.raises(TimeoutError):
            await connection.execute("select pg_sleep(31)", timeout=1)
        assert await connection.fetchval("select 1") == 1
        proxy.switch_on(Refuse(application="impatient"))
        with suppress(TimeoutError, *GONE):
            await connection.execute("select pg_sleep(31)", timeout=1)
        assert await direct.fetchval(running) == 1
        await direct.execute("select pg_cancel_backend(pid) from pg_stat_activity where query like '%pg_sleep(31)'")


async def test_a_server_that_cannot_be_reached_closes_the_connection():
    async with FaultyProxy("postgresql://postgres@/x?host=/nonexistent&port=1") as proxy:
        with pytest.raises(GONE):
            await asyncpg.connect(proxy.dsn)


async def test_a_proxy_in_a_process_of_its_own_obeys(empty_database, direct):
    async with ProxyProcess(empty_database, seed=3) as proxy:
        lost = await proxy.tell(SwitchOn(LoseReply(statement="insert")))
        with pytest.raises(GONE):
            async with client(proxy) as connection:
                await connection.execute(INSERT, 1)
        assert await proxy.tell(SwitchOff(lost["switch"])) == {"hits": 1}
        async with client(proxy) as connection:
            await connection.execute(INSERT, 2)
            assert await proxy.tell(Count()) == {"injected": {"LoseReply": 1}, "connections": ["test"]}
            await proxy.tell(Shut())
            with pytest.raises(ConnectionRefusedError):
                await asyncpg.connect(proxy.dsn)
            assert await proxy.tell(Silence("nobody")) == {"silence": 0}
            assert await proxy.tell(Reset()) == {"reset": 1}
            with pytest.raises(GONE):
                await connection.fetchval("select 1")
        await proxy.tell(Heal())
        async with client(proxy) as connection:
            assert await connection.fetchval("select count(*) from t") == 2
        with pytest.raises(RuntimeError, match="IndexError"):
            await proxy.tell(SwitchOff(7))
    with pytest.raises(RuntimeError, match="has ended"):
        await proxy.tell(Count())


@pytest.mark.parametrize("size", [1, 3, 4, 5, 1000])
def test_messages_are_found_however_the_stream_is_cut(size):
    wanted = [Message(b"Q", b"Q\0\0\0\x06ab"), Message(b"S", b"S\0\0\0\x04"), Message(b"D", b"D\0\0\0\x05x")]
    stream = b"".join(message.whole for message in wanted)
    splitter = Splitter()
    found = []
    for start in range(0, len(stream), size):
        found += splitter.feed(stream[start : start + size])
    assert found == wanted
