"""The database or memcached goes away and comes back while jobs, feeds and topics are followed: a pause at most."""

import asyncio
import json
import random
import time
from contextlib import AsyncExitStack, suppress

import httpx
import pytest

from quarterdeck import JobContext, Quarterdeck, bootstrap
from quarterdeck.domain.errors import Unavailable
from quarterdeck.store import memory
from tests.live.conftest import serving
from tests.support.faults.proxy import FaultyProxy
from tests.support.faults.rules import BlackHole
from tests.support.memcached import MemcachedProcess
from tests.support.sockets import TERMINAL
from tests.support.waiting import eventually

JOBS = 4
LARGE = random.Random(1).randbytes(100_000).hex()
TOPIC = "news"
OUTAGE = 5.0
PONG_WITHIN = 4.5
"""Seconds; an answer may have to wait for a statement of the same socket to be given up, not for an outage to end."""
END_ALL = """
    select count(pg_terminate_backend(pid)) from pg_stat_activity
     where datname = current_database() and pid <> pg_backend_pid() and application_name like 'quarterdeck-%'
"""

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def link(database_url):
    async with FaultyProxy(database_url, seed=3) as proxy:
        yield proxy


@pytest.fixture
def go():
    """What lets the jobs come to their end."""
    return asyncio.Event()


@pytest.fixture
def deck(go):
    deck = Quarterdeck()

    @deck.handler()
    async def tell(ctx: JobContext) -> int:
        step = 0
        while not go.is_set():
            step += 1
            await ctx.log(f"step {step}")
            await ctx.progress(0.5, str(step))
            await asyncio.sleep(0.05)
        return step

    @deck.handler(queue="large")
    async def large() -> str:
        return LARGE

    return deck


class Listener:
    """A socket that writes down all it gets, asks for a pong all the time, and is never disconnected."""

    def __init__(self, peer):
        self.frames = []
        self.slowest_pong = 0.0
        self.peer = peer
        self._asked = None

    async def read(self):
        while True:
            frame = json.loads(await self.peer.connection.recv())
            if frame["type"] == "pong":
                self.slowest_pong = max(self.slowest_pong, time.monotonic() - self._asked)
                self._asked = None
            else:
                self.frames.append(frame)

    async def ping(self):
        while True:
            if self._asked is None:
                self._asked = time.monotonic()
                await self.peer.send(op="ping")
            assert time.monotonic() - self._asked < PONG_WITHIN, "no pong"
            await asyncio.sleep(0.05)

    def of(self, sub, kind="event"):
        return [frame for frame in self.frames if frame.get("sub") == sub and frame["type"] == kind]


class Stream:
    """An event stream that is read until it is left."""

    def __init__(self, response):
        self.pieces = []
        self.over = False
        self._lines = response.aiter_lines()

    async def read(self):
        async for line in self._lines:
            if line.startswith("data:"):
                self.pieces.append(json.loads(line.removeprefix("data:")))
        self.over = True


def seqs(frames, job_id):
    """What was seen of a job, in order; of what was merged, all."""
    return [
        seq
        for frame in frames
        if frame["job_id"] == job_id
        for seq in range(frame.get("merged_from", frame["seq"]), frame["seq"] + 1)
    ]


async def black_hole(_, link):
    hole = link.switch_on(BlackHole())
    await asyncio.sleep(OUTAGE)
    hole.off()
    link.reset()  # as the kernel would, once its packets come through again


async def one_way(_, link):
    hole = link.switch_on(BlackHole(to_server=False))
    await asyncio.sleep(OUTAGE)
    hole.off()


async def down(_, link):
    await link.shut()
    link.reset()
    await asyncio.sleep(2)
    await link.open()


async def backends_are_ended(scene, _):
    for _ in range(3):
        await eventually(lambda: scene.connection.fetchval(END_ALL))
        await asyncio.sleep(0.5)


async def the_bus_is_lost(_, link):
    await eventually(lambda: link.reset("quarterdeck-bus"))
    await asyncio.sleep(1)
    await eventually(lambda: link.silence("quarterdeck-bus"))
    await asyncio.sleep(1)


async def memcached_is_gone(scene, _):
    """It is frozen, then killed, while a large result is asked for, which it has."""
    path = f"/v1/jobs/{scene.large}/result"

    async def is_kept():  # what is to be written too late, on a busy machine, is not written
        assert (await scene.http.get(path)).json() == LARGE
        return scene.memcached.keys()

    await eventually(is_kept)
    for trouble in (scene.memcached.freeze, scene.memcached.kill):
        trouble()
        for _ in range(5):
            assert (await scene.http.get(path)).json() == LARGE
            await asyncio.sleep(0.1)
    scene.memcached.start()


class Scene:
    """A worker with a way of its own to the database, and a web process behind the link, to which all listen."""

    def __init__(self, worker, http, listeners, connection, memcached):
        self.jobs = []
        self.streams = {}
        self.silent = False
        self.large = None
        self.http = http
        self.connection = connection
        self.memcached = memcached
        self._worker = worker
        self.everything, self.single = self.listeners = listeners

    async def begin(self, stack):
        """Jobs run, and everybody follows what there is."""
        answer = await self.http.post("/v1/jobs", json={"kind": "large"}, headers={"Prefer": "wait=10"})
        self.large = answer.json()["id"]
        targets = {"all": {"all": True}, "queue": {"queue": "default"}, "topic": {"topic": TOPIC}}
        for sub, target in targets.items():
            assert (await self.everything.peer.ask(op="subscribe", sub=sub, **target))["type"] == "subscribed"
        for _ in range(JOBS):
            self.jobs.append((await self.http.post("/v1/jobs", json={"kind": "tell"})).json()["id"])
            await self.single.peer.ask(op="subscribe", sub=self.jobs[-1], job=self.jobs[-1], after=0)
        for listener in self.listeners:
            listener.frames += listener.peer.frames
        paths = {"job": f"/v1/jobs/{self.jobs[0]}/events", "all": "/v1/events?all=1"}
        for name, path in {**paths, "topic": f"/v1/events?topic={TOPIC}"}.items():
            response = await stack.enter_async_context(self.http.stream("GET", path))
            assert response.status_code == httpx.codes.OK
            self.streams[name] = Stream(response)

    async def publish(self):
        number = 0
        while not self.silent:
            number += 1
            with suppress(Unavailable):  # the worker's connections may be those that are ended
                await self._worker.engine.live.publish(TOPIC, number, tenant="default")
            await asyncio.sleep(0.05)

    def all_seen(self, last_message):
        """Whether everybody has seen the ends of all jobs, and the last message."""
        feeds = [self.everything.of("all"), self.everything.of("queue"), self.streams["all"].pieces]
        assert [ends(feed) for feed in feeds] == [JOBS] * 3
        assert [ends(self.single.of(job_id)) for job_id in self.jobs] == [1] * JOBS
        assert self.streams["job"].over
        assert self.everything.of("topic", "message")[-1]["id"] == last_message
        assert self.streams["topic"].pieces[-1]["id"] == last_message
        return True

    def check(self, stored, messages):
        """Everything was seen, once and in order, and nothing else."""
        everything, single = self.everything, self.single
        assert not [frame for frame in everything.frames + single.frames if frame["type"] in ("gap", "error", "drain")]
        assert set(stored) == set(self.jobs)
        for job_id, whole in stored.items():
            assert seqs(everything.of("all"), job_id) == whole
            assert seqs(everything.of("queue"), job_id) == whole
            assert seqs(single.of(job_id), job_id) == whole
            streamed = seqs(self.streams["all"].pieces, job_id)
            assert streamed == whole[-len(streamed) :]
        assert seqs(self.streams["job"].pieces, self.jobs[0]) == stored[self.jobs[0]]
        assert [frame["id"] for frame in everything.of("topic", "message")] == messages
        heard = [piece["id"] for piece in self.streams["topic"].pieces]
        assert heard == messages[-len(heard) :]
        assert len(heard) > len(messages) / 2


def ends(frames):
    return sum(frame.get("event") in TERMINAL for frame in frames)


@pytest.fixture
async def scene(database_url, link, deck, connection, monkeypatch):
    monkeypatch.setattr(bootstrap, "COMMAND_TIMEOUT", 1.0)
    monkeypatch.setattr(memory.Memory, "put", lambda *_: None)  # memcached is to be asked
    async with AsyncExitStack() as stack:
        memcached = stack.enter_context(MemcachedProcess())
        worker = await stack.enter_async_context(serving(database_url, deck))
        web = await stack.enter_async_context(serving(link.dsn, deck, role="web", memcached=memcached.address))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=web.url, trust_env=False, timeout=30))
        listeners = [Listener(await stack.enter_async_context(web.connected())) for _ in range(2)]
        scene = Scene(worker, http, listeners, connection, memcached)
        await scene.begin(stack)
        yield scene


@pytest.mark.parametrize("trouble", [black_hole, one_way, down, backends_are_ended, the_bus_is_lost, memcached_is_gone])
async def test_it_goes_on_where_it_was_and_nobody_is_disconnected(scene, connection, link, go, trouble):
    everything = scene.everything
    async with asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(each.read()) for each in (*scene.listeners, *scene.streams.values())]
        readers += [tasks.create_task(listener.ping()) for listener in scene.listeners]
        publishing = tasks.create_task(scene.publish())
        await eventually(lambda: len(everything.of("topic", "message")) > 5, 10)
        await trouble(scene, link)
        before = len(everything.frames)
        await eventually(lambda: len(everything.frames) > before + 20, 15)
        scene.silent = True
        await publishing
        go.set()
        messages = "select id from quarterdeck.topic_message order by id"
        found = [row["id"] for row in await connection.fetch(messages)]
        await eventually(lambda: scene.all_seen(found[-1]), 15)
        assert not any(reader.done() for reader in readers[:2]), "disconnected"
        for reader in readers:
            reader.cancel()
    rows = await connection.fetch("select id, seq from quarterdeck.job_history where kind = 'tell'")
    scene.check({str(row["id"]): list(range(1, row["seq"] + 1)) for row in rows}, found)
