"""Both buses keep the same promises: over PostgreSQL's notifications, and over Redis."""

import asyncio
import contextlib
import sys

import asyncpg
import pytest
import redis.asyncio

from quarterdeck.config import ConfigError
from quarterdeck.engine.announcer import Announcer
from quarterdeck.store import postgres_bus, redis_bus
from quarterdeck.store.embedded import EmbeddedPostgres
from quarterdeck.store.postgres_bus import PostgresBus
from quarterdeck.store.redis_bus import RedisBus
from tests.support.database import FAST_SETTINGS, fresh_database
from tests.support.faults.proxy import FaultyProxy
from tests.support.faults.rules import BlackHole, Refuse
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually


class PostgresPlace:
    """Where the bus over PostgreSQL runs, and what can happen to it there."""

    def __init__(self, dsn, proxy):
        self.dsn = dsn
        self.proxy = proxy

    def bus(self):
        return PostgresBus(self.proxy.dsn)

    async def cut(self):
        """Ends the connections of every bus, and says how many there were."""
        async with self._connection() as connection:
            return len(
                await connection.fetch(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where application_name = 'quarterdeck-bus' and datname = current_database()"
                )
            )

    async def connections(self):
        async with self._connection() as connection:
            return await connection.fetchval(
                "select count(*) from pg_stat_activity"
                " where application_name = 'quarterdeck-bus' and datname = current_database()"
            )

    async def black_hole(self):
        """Nothing comes through any more; what is open stays open."""
        self.proxy.switch_on(BlackHole())
        self.proxy.silence()

    async def heal(self):
        self.proxy.heal()

    @contextlib.asynccontextmanager
    async def _connection(self):
        connection = await asyncpg.connect(self.dsn)
        try:
            yield connection
        finally:
            await connection.close()


class RedisPlace:
    """The same for Redis."""

    def __init__(self, server):
        self.server = server

    def bus(self):
        return RedisBus(self.server.url)

    async def cut(self):
        async with redis.asyncio.Redis.from_url(self.server.url, protocol=2) as client:
            return await client.client_kill_filter(_type="pubsub") + await client.client_kill_filter(_type="normal")

    async def connections(self):
        async with redis.asyncio.Redis.from_url(self.server.url, protocol=2) as client:
            return len([each for each in await client.client_list() if each["name"] == "quarterdeck-bus"])

    async def black_hole(self):
        self.server.freeze()

    async def heal(self):
        self.server.thaw()


@pytest.fixture(params=["postgres", "redis"])
async def place(request, server):
    """One place after the other, each made only where it is needed."""
    if request.param == "postgres":
        async with fresh_database(server, migrated=True) as dsn, FaultyProxy(dsn) as proxy:
            yield PostgresPlace(dsn, proxy)
    else:
        with RedisServer() as redis_server:
            yield RedisPlace(redis_server)


@pytest.fixture
def quick(monkeypatch):
    """Silence is noticed soon."""
    for module in (postgres_bus, redis_bus):
        monkeypatch.setattr(module, "PING_EVERY", 0.2)
        monkeypatch.setattr(module, "COMMAND_TIMEOUT", 0.5)
    monkeypatch.setattr("quarterdeck.store.pool.CONNECT_TIMEOUT", 0.5)


class Member:
    """Somebody who listens, as a process does: again and again."""

    def __init__(self, bus):
        self.bus = bus
        self.heard = []
        self.links = 0
        self.errors = []

    def _on_connected(self):
        self.links += 1

    async def run(self):
        while True:
            try:
                await self.bus.listen(self.heard.append, self._on_connected)
            except Exception as error:  # noqa: BLE001
                self.errors.append(error)
            await asyncio.sleep(0.02)

    async def send(self, *messages):
        """Sends until it can be sent."""

        async def sent():
            try:
                await self.bus.send(messages)
            except Exception:  # noqa: BLE001
                return False
            return True

        await eventually(sent, 20)


@contextlib.asynccontextmanager
async def members(place, count=2):
    """So many who listen; all of them are gone in the end, and so are their connections."""
    made = [Member(place.bus()) for _ in range(count)]
    tasks = [asyncio.create_task(each.run()) for each in made]
    try:
        for each in made:
            await eventually(lambda each=each: each.links)
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await eventually(lambda: none_connected(place))


async def none_connected(place):
    return await place.connections() == 0


async def get_through(sender, receiver, text):
    """A message that is sent now and then arrives."""

    async def there():
        await sender.send(text)
        return text in receiver.heard

    await eventually(there, 20)


async def test_every_member_gets_every_message(place):
    async with members(place, 3) as (one, two, three):
        await one.send("a", "b", "ü \\ \" 'x'")
        await two.send("c")
        for each in (one, two, three):
            await eventually(lambda each=each: {"a", "b", "c", "ü \\ \" 'x'"} <= set(each.heard))
        assert [one.links, two.links, three.links] == [1, 1, 1]


async def test_a_message_may_have_as_many_bytes_as_the_bus_says(place):
    async with members(place) as (one, two):
        texts = ["x" * one.bus.limit, "ü" * (one.bus.limit // 2)]
        await one.send(*texts)
        await eventually(lambda: set(texts) <= set(two.heard))


async def test_who_is_not_connected_cannot_send(place):
    with pytest.raises(ConnectionError):
        await place.bus().send(["a"])


async def test_members_come_back_after_their_connections_were_ended(place):
    async with members(place) as (one, two):
        for round_ in range(3):
            links = [one.links, two.links]
            assert await place.cut() >= 2
            await eventually(lambda before=links: one.links > before[0] and two.links > before[1], 10)
            await get_through(one, two, f"after {round_}")
            await get_through(two, one, f"back {round_}")
        assert one.errors


async def test_a_link_that_falls_silent_is_noticed_and_replaced(place, quick):
    async with members(place) as (one, two):
        await place.black_hole()
        await eventually(lambda: one.errors and two.errors, 10)
        await place.heal()
        await get_through(one, two, "again")
        await get_through(two, one, "again too")


async def test_a_link_on_which_nothing_happens_lasts(place, monkeypatch):
    monkeypatch.setattr(postgres_bus, "PING_EVERY", 0.02)
    monkeypatch.setattr(redis_bus, "PING_EVERY", 0.02)
    async with members(place) as (one, two):
        await asyncio.sleep(0.5)
        await one.send("still there")
        await eventually(lambda: two.heard == ["still there"])
        assert (one.links, two.links, one.errors, two.errors) == (1, 1, [], [])


async def test_sending_into_the_void_ends_soon(place, quick, monkeypatch):
    for module in (postgres_bus, redis_bus):
        monkeypatch.setattr(module, "PING_EVERY", 60.0)
    async with members(place) as (one, two):
        await one.send("first")  # opens what is to be opened
        await place.black_hole()
        async with asyncio.timeout(5):
            with pytest.raises((OSError, TimeoutError, redis.RedisError, asyncpg.PostgresError)):
                await one.bus.send(["lost"])
        await place.heal()
        monkeypatch.setattr(postgres_bus, "PING_EVERY", 0.2)
        if isinstance(place, PostgresPlace):
            place.proxy.reset()  # two waits for its ping of long ago
        await get_through(one, two, "again")


async def test_a_listener_that_is_told_to_stop_in_the_middle_leaves_nothing(place):
    for pause in (0.0, 0.001, 0.003, 0.01, 0.03):
        member = Member(place.bus())
        task = asyncio.create_task(member.run())
        await asyncio.sleep(pause)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await eventually(lambda: none_connected(place))


# Restarts


async def test_members_come_back_after_a_restart_of_redis():
    with RedisServer() as server:
        async with members(RedisPlace(server)) as (one, two):
            await asyncio.to_thread(server.kill)
            await eventually(lambda: one.errors and two.errors)
            await asyncio.to_thread(server.start)
            await eventually(lambda: one.links == 2 and two.links == 2, 10)
            await get_through(one, two, "again")


async def test_members_come_back_after_a_restart_of_postgresql(tmp_path_factory):
    directory = tmp_path_factory.mktemp("bus")
    postgres = EmbeddedPostgres(directory / "postgres", settings=FAST_SETTINGS)
    await postgres.start()
    try:
        dsn = postgres.dsn("postgres")
        async with FaultyProxy(dsn) as proxy, members(PostgresPlace(dsn, proxy)) as (one, two):
            await postgres.stop()
            await eventually(lambda: one.errors and two.errors, 10)
            await postgres.start()
            await eventually(lambda: one.links == 2 and two.links == 2, 20)
            await get_through(one, two, "again")
    finally:
        await postgres.stop()


# Each of its own


async def test_a_notification_waits_for_no_disk(database_url):
    bus = PostgresBus(database_url)
    heard = []
    task = asyncio.create_task(bus.listen(heard.append, lambda: None))
    await eventually(lambda: bus._connection)
    assert await bus._connection.fetchval("show synchronous_commit") == "off"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_installations_on_one_redis_server_are_told_apart_by_the_database():
    with RedisServer() as server:
        theirs = Member(RedisBus(server.url.replace("redis://", "valkey://").replace("/0", "/1")))
        task = asyncio.create_task(theirs.run())
        async with members(RedisPlace(server)) as (one, two):
            await theirs.send("theirs")
            await one.send("ours")
            await eventually(lambda: two.heard == ["ours"])
            await eventually(lambda: theirs.heard == ["theirs"])
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_bytes_that_are_no_text_are_a_message_like_any_other():
    with RedisServer() as server:
        async with members(RedisPlace(server)) as (one, two):
            async with redis.asyncio.Redis.from_url(server.url, protocol=2) as client:
                await client.publish("quarterdeck:0", b"\xff\x00{")
            await eventually(lambda: two.heard)
            await get_through(one, two, "after")
            assert (one.links, two.links) == (1, 1)


def test_a_bus_over_redis_says_that_it_needs_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ConfigError, match=r"pip install 'quarterdeck\[redis\]'"):
        RedisBus("redis://h")


# The announcer on a real bus


class Told:
    """What an announcer's process was told."""

    def __init__(self, bus):
        self.jobs = []
        self.feeds = 0
        self.topics = []
        self.announcer = Announcer(
            bus,
            on_jobs=lambda ids: self.jobs.append(ids if ids is None else list(ids)),
            on_work=lambda _: None,
            on_cancel=lambda _: None,
            on_topic=lambda tenant, name: self.topics.append((tenant, name)),
            on_feed=self._on_feed,
        )

    def _on_feed(self):
        self.feeds += 1


@contextlib.asynccontextmanager
async def announcing(*told):
    tasks = [asyncio.create_task(loop()) for each in told for _, loop in each.announcer.loops()]
    try:
        yield
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_hints_reach_another_process(place):
    one, two = Told(place.bus()), Told(place.bus())
    async with announcing(one, two):
        await eventually(lambda: one.announcer._peers and two.announcer._peers)
        one.announcer.topic("default", "news")
        await eventually(lambda: two.topics == [("default", "news")])
        assert one.topics == []
    await eventually(lambda: none_connected(place))


async def test_who_was_deaf_looks_at_everything_once_it_hears_again(place):
    """F25: what was sent while nobody listened is made up for by one look."""
    one, two = Told(place.bus()), Told(place.bus())
    two.announcer.watch(True)
    async with announcing(one, two):
        await eventually(lambda: "jobs" in one.announcer._wanted and one.announcer._peers and two.announcer._peers)
        two.jobs.clear()
        before = two.feeds
        await place.cut()
        one.announcer.topic("default", "while away")
        await eventually(lambda: None in two.jobs and two.feeds > before, 10)
        one.announcer.topic("default", "back")
        await eventually(lambda: ("default", "back") in two.topics, 10)


async def test_a_server_that_refuses_to_listen_hurts_nobody(database_url):
    async with FaultyProxy(database_url) as proxy:
        bus = PostgresBus(proxy.dsn)
        told = Told(bus)
        refused = proxy.switch_on(Refuse(application="quarterdeck-bus", sqlstate="42501"))
        async with announcing(told):
            await eventually(lambda: refused.hits >= 3)
            told.announcer.topic("default", "kept")
            assert told.jobs == []
            proxy.heal()
            await eventually(lambda: told.jobs == [None] and told.feeds == 1, 10)
