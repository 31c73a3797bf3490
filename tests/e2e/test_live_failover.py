"""Clients that follow jobs while the processes that serve and run them are killed: nothing is missed, nothing twice."""

import asyncio
import random
from contextlib import ExitStack

import httpx
import pytest
from websockets.exceptions import WebSocketException

from tests.e2e.rest import TERMINAL, talking_to
from tests.support.processes import cleaned_up, free_port, start_service
from tests.support.sockets import TERMINAL as TERMINAL_EVENTS
from tests.support.sockets import connected

APP = "tests.e2e.live_decks:deck"
SEED = 20
REPLICAS, JOBS, KILLS = 3, 50, 3
STEPS, PAUSE = 12, 0.15
WITHIN = 100.0
"""Seconds for all to be seen to its end; on a machine that does nothing else it takes a small part of that."""

pytestmark = pytest.mark.timeout(120)


class Follower:
    """A client of one job that comes and goes."""

    def __init__(self, job_id, urls, draw):
        self.job_id = job_id
        self.frames = []
        self.connections = 0
        self.served_by = set()
        self._urls = urls
        self._draw = draw

    @property
    def last(self):
        return self.frames[-1]["seq"] if self.frames else 0

    @property
    def done(self):
        return bool(self.frames) and self.frames[-1]["event"] in TERMINAL_EVENTS

    @property
    def covered(self):
        """Every seq that was seen, in order, those that were merged into one event counted."""
        return [seq for frame in self.frames for seq in range(frame.get("merged_from", frame["seq"]), frame["seq"] + 1)]

    async def follow(self):
        """Until the job has ended, from one replica after the other."""
        patience = 1.0
        while not self.done:
            url, before = self._draw.choice(self._urls), self.last
            try:
                async with asyncio.timeout(self._draw.uniform(0.1, patience)), connected(url) as peer:
                    self.connections += 1
                    await peer.send(op="subscribe", sub="a", job=self.job_id, after=self.last)
                    while not self.done:
                        frame = await peer.receive()
                        assert frame["type"] != "error", frame
                        if frame["type"] == "event":
                            self.frames.append(frame)
                            self.served_by.add(url)
                        if self._draw.random() < 0.01:
                            peer.connection.transport.abort()
            except (OSError, WebSocketException, TimeoutError):
                await asyncio.sleep(self._draw.uniform(0.0, 0.1))
            # On a slow machine a visit can be over before anything has come: then the next one may last longer.
            patience = 1.0 if self.last > before else min(2 * patience, 10.0)


class Fleet:
    """Replicas, each on an address of its own that it keeps."""

    def __init__(self, directory, database_url, stack):
        self.binds = [f"127.0.0.1:{free_port()}" for _ in range(REPLICAS)]
        self.urls = [f"http://{bind}" for bind in self.binds]
        self.services = {}
        self._directory = directory
        self._database_url = database_url
        self._stack = stack

    async def start(self, *numbers):
        for number in numbers:
            settings = {
                "QUARTERDECK_DATABASE_URL": self._database_url,
                "QUARTERDECK_BIND": self.binds[number],
                "QUARTERDECK_LEASE": "3",
                "QUARTERDECK_CONCURRENCY": "20",
                "QUARTERDECK_SHUTDOWN_GRACE": "0",
            }
            started = start_service(self._directory, APP, settings=settings)
            self.services[number] = self._stack.enter_context(cleaned_up(started))
        await asyncio.gather(*(self.services[number].wait_until_ready() for number in numbers))


async def test_every_event_of_every_job_is_seen_once_whatever_is_killed(tmp_path, database_url):
    draw = random.Random(SEED)
    with ExitStack() as stack:
        fleet = Fleet(tmp_path, database_url, stack)
        await fleet.start(*range(REPLICAS))
        followers = []
        async with asyncio.timeout(WITHIN), asyncio.TaskGroup() as tasks:
            for number in range(JOBS):
                async with talking_to(fleet.services[number % REPLICAS]) as rest:
                    job = await rest.submit("tell", args={"steps": STEPS, "pause": PAUSE}, max_attempts=9)
                followers.append(Follower(job["id"], fleet.urls, random.Random(SEED + number)))
                tasks.create_task(followers[-1].follow())
            for _ in range(KILLS):
                await asyncio.sleep(draw.uniform(0.2, 0.8))
                victim = draw.randrange(REPLICAS)
                fleet.services[victim].kill()
                await fleet.start(victim)
        async with httpx.AsyncClient(base_url=fleet.urls[0], trust_env=False) as client:
            jobs = [(await client.get(f"/v1/jobs/{follower.job_id}")).json() for follower in followers]
    for job, follower in zip(jobs, followers, strict=True):
        assert job["state"] in TERMINAL
        assert follower.covered == list(range(1, job["seq"] + 1)), job["id"]
        assert follower.frames[-1]["event"] == f"job.{job['state']}"
        assert follower.frames[0]["event"] == "job.submitted"
    assert sum(job["crashes"] for job in jobs) > 0, "the kills hit nothing"
    assert max(len(follower.served_by) for follower in followers) > 1
