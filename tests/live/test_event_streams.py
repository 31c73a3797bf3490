"""Server-Sent Events: the same events, resumable, without an end that is not one."""

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import pytest

from quarterdeck.web import sse
from tests.support.waiting import eventually

FIELDS = ("args", "tags", "metadata", "queue", "priority", "run_at")
NO_JOB = "0193b5c0-0000-7000-8000-000000000000"
KEYS = {"auth": "required", "api_keys": "ada:a-secret-that-is-long-enough"}
KEY = {"Authorization": "Bearer a-secret-that-is-long-enough"}


class Stream:
    """The events of a stream, as a reader of the standard finds them."""

    def __init__(self, response):
        self.response = response
        self._lines = response.aiter_lines()
        self.comments = 0
        self.retry = None

    async def event(self, within=10):
        """The next event: its id, name and data; None at the end of the stream."""
        found = {}
        async with asyncio.timeout(within):
            async for line in self._lines:
                if not line and "data" in found:
                    return found["id"], found["event"], json.loads(found["data"])
                name, _, value = line.partition(":")
                if line.startswith(":"):
                    self.comments += 1
                elif name == "retry":
                    self.retry = int(value)
                elif line:
                    found[name] = value.removeprefix(" ")
        return None

    async def all(self):
        """Every event to the end."""
        found = []
        while (event := await self.event()) is not None:
            found.append(event)
        return found


@asynccontextmanager
async def streaming(http, path, **options):
    async with http.stream("GET", path, **options) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["Cache-Control"] == "no-store"
        yield Stream(response)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"priority": 1}, {"priority": 1}),
        (
            {"run_at": "2031-01-02T03:04:05.678Z", "queue": "other"},
            {"queue": "other", "run_at": "2031-01-02T03:04:05.678Z"},
        ),
        ({"args": {"n": 2}, "tags": ["b"], "metadata": {"m": 2}, "priority": 5}, {}),
    ],
)
async def test_a_change_by_hand_tells_what_was_changed(http, change, told):
    before = {"tags": ["a"], "metadata": {"m": 1}, "delay": 3600}
    job = (await http.post("/v1/jobs", json={"kind": "quarterdeck.echo", "args": {"n": 1}, **before})).json()
    async with streaming(http, f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": "1"}) as stream:
        assert (await http.patch(f"/v1/jobs/{job['id']}", json=change)).status_code == 200
        number, name, data = await stream.event()
    assert (number, name) == ("2", "job.updated")
    changed = {"changed": [field for field in FIELDS if field in change and change[field] != job[field]]}
    assert data["data"] == {"state": "scheduled", **changed, **told}


async def test_a_job_from_beginning_to_end(http, gate):
    job = (await http.post("/v1/jobs", json={"kind": "hold"})).json()
    async with streaming(http, f"/v1/jobs/{job['id']}/events") as stream:
        assert (await stream.event())[1] == "job.submitted"
        assert (await stream.event())[1] == "job.started"
        gate.set()
        number, name, data = await stream.event()
        assert (number, name) == ("3", "job.completed")
        assert (data["type"], data["seq"], data["data"]) == ("event", 3, {"state": "completed", "result": "let go"})
        assert await stream.event() is None
        assert stream.retry == 1000


async def test_it_goes_on_after_the_last_event_and_then_there_is_nothing(http):
    job = (await http.post("/v1/jobs", json={"kind": "fail"}, headers={"Prefer": "wait=10"})).json()
    path = f"/v1/jobs/{job['id']}/events"
    async with streaming(http, path, headers={"Last-Event-ID": "3"}) as stream:
        assert [number for number, _, _ in await stream.all()] == ["4", "5", "6"]
    async with streaming(http, path, params={"after": 5}) as stream:
        assert [number for number, _, _ in await stream.all()] == ["6"]
    assert (await http.get(path, headers={"Last-Event-ID": "6"})).status_code == 204


async def test_a_job_that_ran_again_is_streamed_to_its_last_end(http):
    job = (await http.post("/v1/jobs", json={"kind": "give_up"}, headers={"Prefer": "wait=10"})).json()
    await http.post(f"/v1/jobs/{job['id']}/retry")
    await http.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=10"})
    async with streaming(http, f"/v1/jobs/{job['id']}/events") as stream:
        names = [name for _, name, _ in await stream.all()]
    assert names.count("job.cancelled") == 2
    assert names[-1] == "job.cancelled"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/v1/jobs/{NO_JOB}/events", 404),
        ("/v1/jobs/x/events", 404),
        ("/v1/events", 400),
        ("/v1/events?queue=a&kind=b", 400),
        ("/v1/events?queue=no%20name", 400),
        ("/v1/events?all=0", 400),
        ("/v1/events?all=1&cursor=x", 400),
        ("/v1/events?topic=t&cursor=x", 400),
        ("/v1/events?workflow=x", 400),
    ],
)
async def test_what_cannot_be_followed(http, path, status):
    assert (await http.get(path)).status_code == status


async def test_a_bad_id_of_an_event(http):
    job = (await http.post("/v1/jobs", json={"kind": "hold"})).json()
    answer = await http.get(f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": "-1"})
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-query")


async def test_silence_is_filled_with_comments(http, monkeypatch):
    monkeypatch.setattr(sse, "HEARTBEAT", 0.05)
    job = (await http.post("/v1/jobs", json={"kind": "hold"})).json()
    async with streaming(http, f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": "2"}) as stream:
        silence = asyncio.create_task(stream.event(within=30))
        await eventually(lambda: stream.comments >= 3)
        assert not silence.done()
        silence.cancel()
        await asyncio.wait([silence])


async def test_a_feed_and_where_it_goes_on(http):
    async with streaming(http, "/v1/events?kind=add") as stream:
        jobs = [
            (await http.post("/v1/jobs", json={"kind": "add", "args": {"left": n, "right": 0}})).json()["id"]
            for n in range(3)
        ]
        await http.post("/v1/jobs", json={"kind": "give_up"})
        seen = []
        while [event[1] for event in seen].count("job.completed") < 3:
            seen.append(await stream.event())
    assert {event[2]["job_id"] for event in seen} == set(jobs)
    cursor = seen[3][0]
    async with streaming(http, "/v1/events?kind=add", headers={"Last-Event-ID": cursor}) as stream:
        rest = [await stream.event() for _ in seen[4:]]
    assert [(event[2]["job_id"], event[2]["seq"]) for event in rest] == [
        (event[2]["job_id"], event[2]["seq"]) for event in seen[4:]
    ]


async def test_a_topic(http, service):
    async with streaming(http, "/v1/events?topic=news") as stream:
        await eventually(lambda: service.engine.live.listeners == 1)
        first = (await http.post("/v1/topics/news/messages", json={"a": 1})).json()["id"]
        number, name, data = await stream.event()
        assert (number, name, data["id"], data["data"]) == (str(first), "message", first, {"a": 1})


async def test_a_stop_ends_the_streams(http, service):
    job = (await http.post("/v1/jobs", json={"kind": "hold"})).json()
    async with streaming(http, f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": "2"}) as stream:
        await eventually(lambda: service.engine.live.listeners == 1)
        service.runtime.drain()
        while await stream.event() is not None:
            pass


async def test_nothing_is_left_when_a_reader_goes(http, service):
    job = (await http.post("/v1/jobs", json={"kind": "hold"})).json()
    async with streaming(http, f"/v1/jobs/{job['id']}/events"):
        await eventually(lambda: service.engine.live.listeners == 1)
    await eventually(lambda: service.engine.live.listeners == 0)
    assert service.engine.live.streams.followed == 0


async def test_a_ticket_in_place_of_a_key(serve):
    service = await serve(**KEYS)
    async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=20) as http:
        job = (await http.post("/v1/jobs", json={"kind": "give_up"}, headers={**KEY, "Prefer": "wait=10"})).json()
        path = f"/v1/jobs/{job['id']}/events"
        assert (await http.get(path)).status_code == 401
        assert (await http.get(path, params={"ticket": "x"})).status_code == 401
        ticket = (await http.post("/v1/tickets", json={"job": job["id"]}, headers=KEY)).json()["ticket"]
        async with streaming(http, path, params={"ticket": ticket}) as stream:
            assert (await stream.all())[-1][1] == "job.cancelled"
        assert (await http.get(path, params={"ticket": ticket})).status_code == 401
        ticket = (await http.post("/v1/tickets", json={"topic": "t"}, headers=KEY)).json()["ticket"]
        assert (await http.get(path, params={"ticket": ticket})).status_code == 403
        # A ticket opens nothing but what it is for.
        assert (await http.get(f"/v1/jobs/{job['id']}", params={"ticket": "x"})).status_code == 401
        async with streaming(http, path, headers=KEY) as stream:
            assert (await stream.event())[1] == "job.submitted"


async def test_a_large_value_is_told_by_its_size(http, peer):
    job = (
        await http.post(
            "/v1/jobs",
            json={"kind": "quarterdeck.echo", "args": {"a": "b" * 100_000}},
            headers={"Prefer": "wait=10"},
        )
    ).json()
    async with streaming(http, f"/v1/jobs/{job['id']}/events") as stream:
        _, name, data = (await stream.all())[-1]
    assert name == "job.completed"
    assert data["data"]["result"] == {"$truncated": len(json.dumps(job["result"], separators=(",", ":")))}
