"""Feeds over the socket: from `subscribed` on, and from any cursor on, nothing is missed."""

import asyncio
import json
import random
import time
import uuid
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest

from tests.support.sockets import TERMINAL
from tests.support.waiting import eventually

ADD = {"kind": "add", "args": {"left": 1, "right": 2}}
FORGET = """
    delete from quarterdeck.feed where xid < (select xid from quarterdeck.feed order by xid desc limit 1)
"""
CLOCKS = 0.01
"""Seconds between the database's clock, to the millisecond, and ours."""


class Reader:
    """Reads a socket, and knows when each frame came."""

    def __init__(self, peer):
        self.peer = peer
        self.frames = []
        self._task = asyncio.create_task(self._read())

    async def _read(self):
        while True:
            text = await self.peer.connection.recv()
            self.frames.append((time.time(), json.loads(text)))

    def of(self, sub):
        return [frame for _, frame in self.frames if frame.get("sub") == sub and frame["type"] == "event"]

    def began(self, sub):
        """When `subscribed` came."""
        return next((at for at, f in self.frames if f.get("sub") == sub and f["type"] == "subscribed"), None)

    def gaps(self):
        return [frame for _, frame in self.frames if frame["type"] in ("gap", "error")]

    async def close(self):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@asynccontextmanager
async def reading(service):
    async with service.connected() as peer:
        reader = Reader(peer)
        try:
            yield reader
        finally:
            await reader.close()


@pytest.fixture
async def replicas(serve):
    """Two that serve and run jobs, with clients of each."""
    async with AsyncExitStack() as stack:
        services = [await serve(), await serve()]
        clients = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=20))
            for service in services
        ]
        yield list(zip(services, clients, strict=True))


async def submitted(client, **body):
    key = {"Idempotency-Key": str(uuid.uuid4())}
    while True:
        answer = await client.post("/v1/jobs", json={**ADD, **body}, headers=key)
        if answer.status_code == httpx.codes.ACCEPTED:
            return answer.json()["id"]
        # So many at once may be too much for a busy machine: it says so, and is asked again for the same job.
        assert answer.status_code in (httpx.codes.CONFLICT, httpx.codes.SERVICE_UNAVAILABLE), answer.text
        await asyncio.sleep(0.1)


async def all_ended(connection):
    return await connection.fetchval("select count(*) = 0 from quarterdeck.job")


async def history_of(connection, ids):
    """What is stored of jobs: (id, seq, when) of each event."""
    rows = await connection.fetch("select id, timeline from quarterdeck.job_history where id = any($1::uuid[])", ids)
    return [
        (str(row["id"]), entry[0], entry[2] / 1000)
        for row in rows
        for entry in map(json.loads, row["timeline"].splitlines())
    ]


def places(frames):
    return [(frame["job_id"], frame["seq"]) for frame in frames]


@pytest.mark.parametrize(
    ("target", "theirs", "others"),
    [
        ({"queue": "mine"}, {"queue": "mine"}, {"queue": "yours"}),
        ({"kind": "add"}, {}, {"kind": "nap", "args": {}}),
        ({"tag": "red"}, {"tags": ["red", "big"]}, {"tags": ["blue"]}),
        ({"all": True}, {}, None),
    ],
    ids=["queue", "kind", "tag", "all"],
)
async def test_from_the_first_frame_on_nothing_is_missed(replicas, connection, target, theirs, others):
    draw = random.Random(1)
    rounds, each = 6, 8
    wanted, unwanted, begun = {}, set(), {}
    async with reading(replicas[0][0]) as one, reading(replicas[1][0]) as two:
        for number in range(rounds):
            sub = f"s{number}"
            reader = (one, two)[number % 2]

            async def submit_at(offset, client, sub=sub):
                await asyncio.sleep(offset)
                wanted.setdefault(sub, []).append(await submitted(client, **theirs))
                if others is not None:
                    unwanted.add(await submitted(client, **others))

            offsets = [draw.uniform(0.0, 0.1) for _ in range(each)]
            submits = [asyncio.create_task(submit_at(offset, draw.choice(replicas)[1])) for offset in offsets]
            await asyncio.sleep(0.05)
            await reader.peer.send(op="subscribe", sub=sub, **target)
            await asyncio.gather(*submits)
            begun[sub] = await eventually(lambda reader=reader, sub=sub: reader.began(sub))
            await eventually(lambda: all_ended(connection), 20)
            last = await submitted(draw.choice(replicas)[1], **theirs)  # all that was before it is there with it
            await eventually(
                lambda reader=reader, sub=sub, last=last: any(
                    frame["job_id"] == last and frame["event"] in TERMINAL for frame in reader.of(sub)
                )
            )
            wanted[sub].append(last)
        assert one.gaps() + two.gaps() == []
    for number, (sub, ids) in enumerate(wanted.items()):
        seen = [place for place in places((one, two)[number % 2].of(sub)) if place[0] in ids]
        stored = await history_of(connection, ids)
        due = {(job_id, seq) for job_id, seq, at in stored if at > begun[sub] + CLOCKS}
        assert due <= set(seen), f"missed: {sorted(due - set(seen))}"
        assert len(seen) == len(set(seen)), "twice"
        for job_id in ids:
            seqs = [seq for of, seq in seen if of == job_id]
            last = max(seq for of, seq, _ in stored if of == job_id)
            assert seqs == list(range(last - len(seqs) + 1, last + 1)), "not the whole rest of it, in order"
    seen = {frame["job_id"] for reader in (one, two) for number in range(rounds) for frame in reader.of(f"s{number}")}
    assert not seen & unwanted


async def test_it_goes_on_from_the_cursor_of_any_event_on_any_replica(replicas):
    draw = random.Random(2)
    async with reading(replicas[0][0]) as one, reading(replicas[1][0]) as two:
        await one.peer.send(op="subscribe", sub="a", tag="mine")
        await eventually(lambda: one.began("a"))
        kinds = [{}, {"kind": "nap", "args": {}}, {"kind": "report"}, {"kind": "fail", "args": {}}]
        ids = set()
        for number in range(20):
            body = {"tags": ["mine"], **kinds[number % 4]}
            if body.get("kind") == "report":
                body["args"] = {"steps": 3}
            ids.add(await submitted(draw.choice(replicas)[1], **body))
            await submitted(draw.choice(replicas)[1], tags=["other"])
        await eventually(lambda: {f["job_id"] for f in one.of("a") if f["event"] in TERMINAL} == ids, 20)
        whole = one.of("a")
        marks = sorted(draw.sample(range(len(whole)), 25))
        for number in marks:
            reader = draw.choice([one, two])
            await reader.peer.send(op="subscribe", sub=f"from {number}", tag="mine", cursor=whole[number]["cursor"])
        readers = {"one": one, "two": two}
        for number in marks:
            sub, rest = f"from {number}", sorted(places(whole[number + 1 :]))

            def there(sub=sub):
                return sorted(place for reader in readers.values() for place in places(reader.of(sub)))

            await eventually(lambda rest=rest, there=there: len(there()) >= len(rest))
            assert there() == rest
        assert one.gaps() + two.gaps() == []


async def test_a_cursor_that_is_too_old_brings_a_gap_and_then_goes_on(replicas, connection):
    (service, client), _ = replicas
    async with reading(service) as reader:
        await reader.peer.send(op="subscribe", sub="a", all=True)
        await eventually(lambda: reader.began("a"))
        await submitted(client)
        await eventually(lambda: reader.of("a") and reader.of("a")[-1]["event"] in TERMINAL)
        old = reader.of("a")[0]["cursor"]
        for _ in range(5):
            await submitted(client)
        await eventually(lambda: sum(frame["event"] in TERMINAL for frame in reader.of("a")) == 6)
        await connection.execute(FORGET)
        await reader.peer.send(op="subscribe", sub="b", all=True, cursor=old)
        await eventually(reader.gaps)
        after = await submitted(client)
        await eventually(lambda: reader.of("b") and reader.of("b")[-1]["event"] in TERMINAL)
        frames = [frame for _, frame in reader.frames if frame.get("sub") == "b"]
        assert [frame["type"] for frame in frames[:2]] == ["subscribed", "gap"]
        assert {frame["job_id"] for frame in frames[2:]} == {after}
        await reader.peer.send(op="subscribe", sub="c", all=True, cursor=frames[1]["cursor"])
        await eventually(lambda: reader.of("c") and reader.of("c")[-1]["event"] in TERMINAL)
        assert places(reader.of("c")) == places(reader.of("b")), "from the gap's own cursor there is no other gap"
        assert len(reader.gaps()) == 1


async def test_what_is_rare_is_found_at_once_behind_much_else(replicas, connection, monkeypatch):
    for name in ("ROWS", "MAX_ROWS"):
        monkeypatch.setattr(f"quarterdeck.engine.feed_log.{name}", 8)
    (service, client), _ = replicas
    async with reading(service) as reader:
        await reader.peer.send(op="subscribe", sub="a", all=True)
        await eventually(lambda: reader.began("a"))
        first = await submitted(client, tags=["rare"])
        await eventually(lambda: reader.of("a"))
        cursor = reader.of("a")[0]["cursor"]
        for _ in range(40):
            await submitted(client)
        rare = await submitted(client, tags=["rare"])
        await eventually(lambda: sum(frame["event"] in TERMINAL for frame in reader.of("a")) == 42, 20)
        await reader.peer.send(op="subscribe", sub="b", tag="rare", cursor=cursor)
        await eventually(lambda: any(f["job_id"] == rare and f["event"] in TERMINAL for f in reader.of("b")), 10)
        assert {frame["job_id"] for frame in reader.of("b")} == {first, rare}
    async with client.stream("GET", "/v1/events", params={"tag": "rare", "cursor": cursor}) as response:
        async with asyncio.timeout(10):
            async for line in response.aiter_lines():
                if line.startswith("data:") and json.loads(line[5:])["job_id"] == rare:
                    break
