"""Following single jobs: a snapshot, then every event once and in order, whenever one comes."""

import asyncio
import random
from collections import Counter, defaultdict
from contextlib import AsyncExitStack

import pytest

from tests.support.factories import new_job, open_stores
from tests.support.sockets import TERMINAL

NO_JOB = "0193b5c0-0000-7000-8000-000000000000"
OVER = {"completed", "cancelled", "discarded"}


def seqs(frames):
    return [frame["seq"] for frame in frames]


async def test_a_job_is_submitted_and_watched_over_one_socket(peer):
    await peer.send(op="submit", ref="1", job={"kind": "add", "args": {"left": 1, "right": 2}}, watch=True)
    first = await peer.receive()
    assert (first["type"], first["ref"], first["job"]["kind"]) == ("submitted", "1", "add")
    events = await peer.events("1")
    assert seqs(events) == list(range(first["job"]["seq"] + 1, events[-1]["seq"] + 1))
    assert (events[-1]["event"], events[-1]["data"]) == ("job.completed", {"state": "completed", "result": 3})
    assert {event["job_id"] for event in events} == {first["job"]["id"]}


async def test_a_snapshot_comes_first_and_then_what_follows_it(peer, http, gate):
    job = (await http.post("/v1/jobs", json={"kind": "hold"})).json()
    snapshot = await peer.ask(op="subscribe", sub="a", job=job["id"])
    assert (snapshot["type"], snapshot["job"]["state"], snapshot["job"]["seq"]) == ("snapshot", "running", 2)
    gate.set()
    events = await peer.events("a")
    assert [(event["event"], event["seq"]) for event in events] == [("job.completed", 3)]
    assert events[0]["data"]["result"] == "let go"


async def test_everything_that_happened_can_be_had_again(peer, http):
    job = (await http.post("/v1/jobs", json={"kind": "fail"}, headers={"Prefer": "wait=10"})).json()
    assert job["state"] == "discarded"
    snapshot = await peer.ask(op="subscribe", sub="a", job=job["id"], after=0)
    assert snapshot["job"]["seq"] == job["seq"]
    events = await peer.events("a")
    assert [event["event"] for event in events] == [
        "job.submitted",
        "job.started",
        "job.retryable",
        "job.available",
        "job.started",
        "job.discarded",
    ]
    assert seqs(events) == [1, 2, 3, 4, 5, 6]
    assert [event["data"].get("state") for event in events] == [
        "available",
        "running",
        "retryable",
        "available",
        "running",
        "discarded",
    ]
    assert [event["data"].get("attempt") for event in events] == [None, 1, 1, None, 2, 2]
    errors = [event["data"]["error"] for event in events if "error" in event["data"]]
    assert [(error["attempt"], error["type"], error["message"]) for error in errors] == [
        (1, "ValueError", "no such luck"),
        (2, "ValueError", "no such luck"),
    ]
    assert events[-1]["data"]["state_reason"] == "attempts_exhausted"
    assert {event["generation"] for event in events} == {1}


async def test_it_goes_on_after_the_event_that_the_client_has(peer, http):
    job = (await http.post("/v1/jobs", json={"kind": "fail"}, headers={"Prefer": "wait=10"})).json()
    await peer.ask(op="subscribe", sub="a", job=job["id"], after=4)
    assert seqs(await peer.events("a")) == [5, 6]


async def test_what_a_handler_tells_is_among_the_events(peer):
    await peer.send(op="submit", ref="1", job={"kind": "report", "args": {"steps": 2}}, watch=True)
    events = await peer.events("1")
    assert [event["event"] for event in events if event["event"] != "job.started"] == [
        "job.progress",
        "job.log",
        "job.output",
        "job.log",
        "job.output",
        "job.progress",
        "job.completed",
    ] or [event["event"] for event in events if event["event"] != "job.started"] == [
        "job.progress",
        "job.log",
        "job.output",
        "job.progress",
        "job.log",
        "job.output",
        "job.completed",
    ]
    by_name = {event["event"]: event["data"] for event in events}
    assert by_name["job.progress"] == {"progress": {"fraction": 1.0, "message": "2 of 2"}}
    assert by_name["job.log"] == {"level": "info", "message": "step 2"}
    assert by_name["job.output"] == {"output": {"step": 2}}


async def test_a_retry_by_hand_goes_on_with_the_numbers(peer, http):
    job = (await http.post("/v1/jobs", json={"kind": "give_up"}, headers={"Prefer": "wait=10"})).json()
    await peer.ask(op="subscribe", sub="a", job=job["id"])
    assert (await http.post(f"/v1/jobs/{job['id']}/retry")).status_code in (200, 202)
    events = await peer.events("a")
    assert events[0]["event"] == "job.retried"
    assert seqs(events) == list(range(job["seq"] + 1, job["seq"] + 1 + len(events)))
    assert {event["generation"] for event in events} == {2}
    assert events[-1]["data"] == {"state": "cancelled", "attempt": 1, "state_detail": "no use"}


async def test_a_job_that_is_not_there(peer):
    answer = await peer.ask(op="subscribe", sub="a", job=NO_JOB)
    assert (answer["type"], answer["problem"]["status"]) == ("error", 404)
    await peer.send(op="ping")
    assert (await peer.receive())["type"] == "pong"


async def test_a_job_may_be_followed_before_it_is_there(peer, service, database_url):
    job = new_job(kind="add", args={"left": 1, "right": 2})
    async with open_stores(database_url) as stores:
        await peer.send(op="subscribe", sub="a", job=str(job.id), wait=True)
        await peer.send(op="ping")
        assert (await peer.receive())["type"] == "pong"
        async with stores.transaction() as writer:
            await writer.insert(job)
            await peer.send(op="ping")
            assert (await peer.receive())["type"] == "pong"
    snapshot = await peer.receive()
    events = await peer.events("a")
    assert (snapshot["type"], snapshot["job"]["id"]) == ("snapshot", str(job.id))
    assert seqs(events) == list(range(snapshot["job"]["seq"] + 1, events[-1]["seq"] + 1))
    assert events[-1]["data"] == {"state": "completed", "result": 3}


async def test_who_waits_for_a_job_that_never_comes_can_stop_that(peer, service):
    await peer.send(op="subscribe", sub="a", job=NO_JOB, wait=True)
    await peer.send(op="unsubscribe", sub="a")
    assert (await peer.receive())["type"] == "unsubscribed"
    assert service.engine.live.streams.followed == 0


async def test_who_forgets_a_job_ends_its_subscriptions(peer, http):
    job = (
        await http.post(
            "/v1/jobs", json={"kind": "add", "args": {"left": 1, "right": 2}}, headers={"Prefer": "wait=10"}
        )
    ).json()
    await peer.ask(op="subscribe", sub="a", job=job["id"])
    assert (await http.delete(f"/v1/jobs/{job['id']}")).status_code in (200, 204)
    gone = await peer.receive()
    assert (gone["type"], gone["sub"], gone["problem"]["status"]) == ("error", "a", 404)


JOBS, AT_ONCE, SUBSCRIPTIONS = 100, 10, 20
KINDS = [("add", {"left": 1, "right": 2}), ("nap", {}), ("fail", {}), ("report", {}), ("stroll", {})]


class Crowd:
    """Subscriptions over one socket, each with the frames that came for it."""

    def __init__(self, peer):
        self.peer = peer
        self.frames = defaultdict(list)
        self.ended = defaultdict(asyncio.Event)

    async def read(self):
        while True:
            frame = await self.peer.receive(within=30)
            sub = frame["sub"]
            self.frames[sub].append(frame)
            over = frame["type"] == "snapshot" and sub.startswith("new") and frame["job"]["state"] in OVER
            if frame["type"] == "error" or over or frame.get("event") in TERMINAL:
                self.ended[sub].set()

    async def follow(self, job_id, *, wait, new):
        """Subscribes in a while; returns from which seq on events were due, and the events."""
        await asyncio.sleep(wait)
        sub = f"{'new' if new else 'all'}-{len(self.frames)}"
        self.frames[sub] = []
        await self.peer.send(op="subscribe", sub=sub, job=job_id, **({} if new else {"after": 0}))
        await self.ended[sub].wait()
        snapshot, *events = self.frames[sub]
        assert snapshot["type"] == "snapshot", snapshot
        return snapshot["job"]["seq"] if new else 0, events


@pytest.mark.parametrize("seed", range(2))
async def test_nothing_is_missed_whenever_one_subscribes(service, serve, http, seed):
    draw = random.Random(seed)
    other = await serve(role="web")
    asyncio.get_running_loop().set_debug(False)  # thousands of subscriptions, and their timing is the point
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(each.connected()) for each in (service, other) * 2]
        crowds = [Crowd(peer) for peer in peers]
        reading = [asyncio.create_task(crowd.read()) for crowd in crowds]

        jobs = []
        turns = asyncio.Semaphore(AT_ONCE)

        async def one_job():
            async with turns:
                kind, args = draw.choice(KINDS)
                submitted = await http.post("/v1/jobs", json={"kind": kind, "args": args})
                assert submitted.status_code == 202, submitted.text
                job_id = submitted.json()["id"]
                follows = [
                    draw.choice(crowds).follow(job_id, wait=draw.uniform(0, 0.1), new=draw.random() < 0.5)
                    for _ in range(SUBSCRIPTIONS)
                ]
                found = await asyncio.gather(*follows)
                jobs.append(((await http.get(f"/v1/jobs/{job_id}")).json(), found))

        async with asyncio.timeout(50), asyncio.TaskGroup() as group:
            for _ in range(JOBS):
                group.create_task(one_job())
        for each in reading:
            each.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    begun = Counter()
    for final, found in jobs:
        for begin, events in found:
            begun["late" if begin == final["seq"] else "early" if begin < 2 else "between"] += 1
            covered = [n for event in events for n in range(event.get("merged_from", event["seq"]), event["seq"] + 1)]
            assert covered == list(range(begin + 1, final["seq"] + 1))
    assert set(begun) == {"early", "between", "late"}
    assert min(begun.values()) >= 10, begun  # all three cases have been tried
