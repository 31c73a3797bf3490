"""The protocol, frame by frame: what is answered, what is refused, and what closes the socket."""

import asyncio
import json
import time

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from quarterdeck.web import live as live_channel
from quarterdeck.web.socket_session import MAX_SUBSCRIPTIONS
from tests.support.raw_sockets import flooded, text_frame
from tests.support.sockets import connected
from tests.support.waiting import eventually

KEYS = {"auth": "required", "api_keys": "ada:a-secret-that-is-long-enough"}
KEY = {"Authorization": "Bearer a-secret-that-is-long-enough"}
NO_JOB = "0193b5c0-0000-7000-8000-000000000000"


async def test_the_subprotocol_is_chosen_and_hello_says_the_heartbeat(service):
    async with service.connected(greeted=False) as peer:
        assert peer.connection.subprotocol == "quarterdeck.v1.json"
        assert await peer.receive() == {"type": "hello", "heartbeat": 30.0}


async def test_a_client_without_the_subprotocol_is_served_too(service):
    async with service.connected(subprotocols=None) as peer:
        await peer.send(op="ping")
        assert await peer.receive() == {"type": "pong"}


async def test_nothing_is_compressed(service):
    async with service.connected(compression="deflate") as peer:
        assert peer.connection.protocol.extensions == []


@pytest.mark.parametrize(
    ("frame", "pointer"),
    [
        ({"op": "dance"}, "/op"),
        ({}, "/op"),
        ({"op": 7}, "/op"),
        ({"op": "subscribe", "sub": "a"}, ""),
        ({"op": "subscribe", "sub": "a", "job": NO_JOB, "queue": "default"}, ""),
        ({"op": "subscribe", "job": NO_JOB}, ""),
        ({"op": "subscribe", "sub": "a", "job": 1}, "/job"),
        ({"op": "subscribe", "sub": "a", "job": NO_JOB, "after": -1}, "/after"),
        ({"op": "subscribe", "sub": "a", "queue": "default", "after": 1}, "/after"),
        ({"op": "subscribe", "sub": "a", "job": NO_JOB, "cursor": "x"}, "/cursor"),
        ({"op": "subscribe", "sub": "a", "all": False}, "/all"),
        ({"op": "subscribe", "sub": "", "job": NO_JOB}, "/sub"),
        ({"op": "subscribe", "sub": "a", "job": NO_JOB, "when": 1}, ""),
        ({"op": "submit", "ref": "r"}, ""),
        ({"op": "submit", "ref": "r", "job": {"kind": "add"}, "jobs": []}, "/jobs"),
        ({"op": "submit", "ref": "r", "job": {"kind": "add"}, "jobs": [{"kind": "add"}]}, ""),
        ({"op": "submit", "ref": "r", "job": {"kind": "add", "args": {"left": 1}}}, "/job/args"),
        ({"op": "submit", "ref": "r", "job": {"kind": "nothing_like_it"}}, "/job/kind"),
        ({"op": "submit", "ref": "r", "job": {"kind": "add", "priority": 77}}, "/job/priority"),
        (
            {"op": "submit", "ref": "r", "jobs": [{"kind": "add", "args": {"left": 1, "right": 2}}, {"kind": "add"}]},
            "/jobs/1/args",
        ),
        ({"op": "submit", "ref": "r", "job": {"kind": "add", "surprise": 1}}, "/job"),
        ({"op": "submit", "ref": "r", "job": {"kind": "hold", "idempotency_key": ""}}, "/job/idempotency_key"),
        ({"op": "submit", "ref": "r", "sub": "s", "job": {"kind": "hold"}}, "/sub"),
        ({"op": "submit", "ref": "r", "job": {"kind": "hold", "tags": ["\0"]}}, "/job/tags/0"),
        ({"op": "cancel", "ref": "r", "job": 1}, "/job"),
        ({"op": "publish", "ref": "r", "topic": "t"}, ""),
        ({"op": "publish", "ref": "r", "topic": "no good", "data": 1}, "/topic"),
    ],
)
async def test_a_wrong_frame_is_an_error_and_the_socket_stays_open(peer, frame, pointer):
    await peer.send(**frame)
    answer = await peer.receive()
    assert (answer["type"], answer["problem"]["status"]) == ("error", 422), answer
    assert answer["problem"]["errors"][0]["pointer"].startswith(pointer), answer
    for name in ("ref", "sub"):
        if frame.get(name) and frame["op"] != "submit":
            assert answer[name] == frame[name]
    await peer.send(op="ping")
    assert (await peer.receive())["type"] == "pong"


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "1", '"op"', "{", '{"op": NaN}', '{"op": 1, "op": 2}', b"\x00\x01", b'{"op":"ping"}']
)
async def test_what_is_no_json_object_in_text_closes_the_socket(peer, text):
    await peer.connection.send(text)
    assert await peer.closed() == 4400


async def test_a_frame_that_is_too_long_closes_the_socket(peer):
    await peer.send(op="publish", ref="1", topic="t", data="a" * 300_000)
    assert await peer.closed() in (1009, 4413)


async def test_a_frame_that_is_too_long_in_bytes_closes_the_socket(peer):
    await peer.connection.send(json.dumps({"op": "ping", "x": "é" * 200_000}, ensure_ascii=False))
    assert await peer.closed() in (1009, 4413)


async def test_a_frame_in_many_pieces_is_one(peer):
    await peer.connection.send(iter(['{"op"', ':"pi', 'ng"}']))
    assert (await peer.receive())["type"] == "pong"


async def test_two_subscriptions_cannot_have_one_name(peer, http):
    job = (await http.post("/v1/jobs", json={"kind": "hold"})).json()
    await peer.ask(op="subscribe", sub="a", job=job["id"])
    again = await peer.ask(op="subscribe", sub="a", job=job["id"])
    assert (again["type"], again["problem"]["status"]) == ("error", 400)
    assert (await peer.ask(op="unsubscribe", sub="a"))["type"] == "unsubscribed"
    assert (await peer.ask(op="unsubscribe", sub="a"))["type"] == "error"
    assert (await peer.ask(op="subscribe", sub="a", job=job["id"]))["type"] == "snapshot"


async def test_jobs_are_submitted_together_or_not_at_all(peer, http):
    good = {"kind": "add", "args": {"left": 1, "right": 2}, "tags": ["together"]}
    refused = await peer.ask(op="submit", ref="1", jobs=[good, {"kind": "add"}])
    assert refused["type"] == "error"
    assert (await http.get("/v1/jobs", params={"tag": "together"})).json()["items"] == []
    stored = await peer.ask(op="submit", ref="2", jobs=[good, good])
    assert [job["kind"] for job in stored["jobs"]] == ["add", "add"]
    assert len((await http.get("/v1/jobs", params={"tag": "together"})).json()["items"]) == 2


async def test_several_jobs_are_watched_under_one_name(peer):
    jobs = [{"kind": "add", "args": {"left": number, "right": 0}} for number in range(5)]
    await peer.send(op="submit", ref="1", jobs=jobs, watch=True, sub="all of them")
    submitted = await peer.receive()
    assert submitted["type"] == "submitted"
    results = {}
    while len(results) < 5:
        event = await peer.receive()
        assert event["sub"] == "all of them"
        if event["event"] == "job.completed":
            results[event["job_id"]] = event["data"]["result"]
    assert [results[job["id"]] for job in submitted["jobs"]] == [0, 1, 2, 3, 4]


async def test_a_key_finds_the_first_answer_also_over_rest(peer, http):
    body = {"kind": "add", "args": {"left": 1, "right": 2}}
    first = await peer.ask(op="submit", ref="1", job={**body, "idempotency_key": "k-1"})
    again = await peer.ask(op="submit", ref="2", job={**body, "idempotency_key": "k-1"})
    assert again["job"] == first["job"]
    rest = await http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k-1"})
    assert (rest.json(), rest.headers["Idempotent-Replayed"]) == (first["job"], "true")
    other = await peer.ask(op="submit", ref="3", job={"kind": "hold", "idempotency_key": "k-1"})
    assert (other["type"], other["problem"]["status"]) == ("error", 422)


async def test_a_duplicate_says_so(peer):
    job = {"kind": "hold", "unique": True}
    first = await peer.ask(op="submit", ref="1", job=job)
    again = await peer.ask(op="submit", ref="2", job=job)
    assert "duplicates" not in first
    assert again["duplicates"] == [first["job"]["id"]]


async def test_there_is_nothing_to_watch_of_a_job_that_has_ended(peer):
    job = {"kind": "add", "args": {"left": 1, "right": 2}, "unique": {"key": "once", "period": 60}}
    first = await peer.ask(op="submit", ref="1", job=job, watch=True)
    await peer.events("1")
    for _ in range(2):  # so that its name is free again at once
        again = await peer.ask(op="submit", ref="1", job=job, watch=True)
        assert (again["type"], again["duplicates"]) == ("submitted", [first["job"]["id"]])
        assert again["job"]["state"] == "completed"


async def test_a_running_job_is_cancelled_over_the_socket(peer):
    await peer.send(op="submit", ref="1", job={"kind": "hold"}, watch=True)
    job = (await peer.receive())["job"]
    assert await peer.ask(op="cancel", ref="2", job=job["id"]) == {"type": "ok", "ref": "2"}
    names = [frame.get("event") for frame in peer.frames if frame.get("event")]
    if "job.cancelled" not in names:
        names += [event["event"] for event in await peer.events("1")]
    assert names == ["job.cancel_requested", "job.cancelled"]
    missing = await peer.ask(op="cancel", ref="3", job=NO_JOB)
    assert (missing["type"], missing["problem"]["status"]) == ("error", 404)


async def test_messages_reach_who_follows_their_topic(service, serve):
    other = await serve(role="web")
    async with service.connected() as one, other.connected() as two:
        for peer in (one, two):
            begun = await peer.ask(op="subscribe", sub="room", topic="chat.lobby")
            assert begun["type"] == "subscribed"
        ok = await one.ask(op="publish", ref="1", topic="chat.lobby", data={"text": "hello"})
        assert ok["type"] == "ok"
        for peer in (one, two):
            message = next((f for f in peer.frames if f["type"] == "message"), None) or await peer.receive()
            assert (message["sub"], message["topic"], message["data"]) == ("room", "chat.lobby", {"text": "hello"})
        again = await service.engine.live.topics.publish("default", "chat.lobby", b'"more"')
        assert (await two.receive())["id"] == again
        late = await two.ask(op="subscribe", sub="late", topic="chat.lobby", cursor=str(ok.get("id", 1)))
        assert late["type"] == "subscribed"
        assert (await two.receive())["data"] == "more"


# Who may


async def test_who_has_no_key_is_not_let_in(serve):
    service = await serve(**KEYS)
    for headers in ({"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}):
        with pytest.raises(InvalidStatus) as refused:
            async with service.connected(additional_headers=headers):
                pass
        assert refused.value.response.status_code == 401
    async with service.connected(additional_headers=KEY) as peer:
        await peer.send(op="ping")
        assert (await peer.receive())["type"] == "pong"


async def test_a_key_may_come_in_the_first_frame(serve):
    service = await serve(**KEYS)
    async with service.connected() as peer:
        await peer.send(op="auth", token="a-secret-that-is-long-enough")
        await peer.send(op="ping")
        assert (await peer.receive())["type"] == "pong"
    for frame in ({"op": "auth", "token": "wrong"}, {"op": "ping"}, {"op": "auth"}):
        async with service.connected() as peer:
            await peer.send(**frame)
            assert await peer.closed() == 4401


async def test_who_says_nothing_is_sent_away(serve, monkeypatch):
    monkeypatch.setattr(live_channel, "AUTH_TIMEOUT", 0.1)
    service = await serve(**KEYS)
    async with service.connected() as peer:
        assert await peer.closed() == 4401


async def test_a_ticket_lets_in_once(serve):
    service = await serve(**KEYS)
    async with httpx.AsyncClient(base_url=service.url, headers=KEY, trust_env=False) as http:
        ticket = (await http.post("/v1/tickets")).json()["ticket"]
        async with service.connected(query=f"?ticket={ticket}") as peer:
            await peer.send(op="ping")
            assert (await peer.receive())["type"] == "pong"
        async with service.connected(query=f"?ticket={ticket}") as peer:
            assert await peer.closed() == 4401
        ticket = (await http.post("/v1/tickets", json={"topic": "mine"})).json()["ticket"]
        async with service.connected(query=f"?ticket={ticket}") as peer:
            assert (await peer.ask(op="subscribe", sub="a", topic="mine"))["type"] == "subscribed"
            for frame in (
                {"op": "subscribe", "sub": "b", "topic": "yours"},
                {"op": "subscribe", "sub": "b", "all": True},
                {"op": "submit", "ref": "b", "job": {"kind": "hold"}},
                {"op": "cancel", "ref": "b", "job": NO_JOB},
                {"op": "publish", "ref": "b", "topic": "yours", "data": 1},
            ):
                assert (await peer.ask(**frame))["problem"]["status"] == 403


@pytest.mark.parametrize("origin", ["http://evil.test", "null"])
async def test_pages_of_other_sites_are_not_let_in(serve, origin):
    for settings in ({}, KEYS):
        service = await serve(**settings)
        with pytest.raises(InvalidStatus) as refused:
            async with service.connected(origin=origin, additional_headers=KEY):
                pass
        assert refused.value.response.status_code == 403


async def test_pages_of_this_service_are_let_in(service):
    async with service.connected(origin=service.url) as peer:
        await peer.send(op="ping")
        assert (await peer.receive())["type"] == "pong"


@pytest.mark.parametrize("query", ["?key=1", "?ticket=a&ticket=b", "?ticket=a&x=1"])
async def test_a_query_with_anything_else_is_refused(service, query):
    with pytest.raises(InvalidStatus) as refused:
        async with service.connected(query=query):
            pass
    assert refused.value.response.status_code == 400


# Limits


@pytest.mark.parametrize("size", [0, 200_000])
async def test_who_is_too_fast_is_sent_away(service, size):
    text = json.dumps({"op": "ping", "x": "a" * size} if size else {"op": "ping"})
    assert await asyncio.to_thread(flooded, service.url, [text_frame(text)] * (1 if size else 100)) == 4429


async def test_the_silent_are_pinged_and_then_sent_away(serve):
    service = await serve(live_heartbeat=1.0)
    began = time.monotonic()
    async with service.connected() as peer:
        assert json.loads(await peer.connection.recv()) == {"type": "ping"}
        assert time.monotonic() - began > 0.9
        await peer.send(op="pong")
        assert json.loads(await peer.connection.recv()) == {"type": "ping"}
        assert await peer.closed() == 4408
        assert time.monotonic() - began > 2.9


async def test_a_socket_has_only_so_many_subscriptions(peer, monkeypatch):
    monkeypatch.setattr("quarterdeck.web.socket_session.MAX_SUBSCRIPTIONS", 2)
    assert MAX_SUBSCRIPTIONS > 1000
    for name in "ab":
        await peer.send(op="subscribe", sub=name, job=NO_JOB, wait=True)
    assert (await peer.ask(op="subscribe", sub="c", job=NO_JOB, wait=True))["type"] == "error"


async def test_nothing_is_left_when_a_client_goes(service, http):
    job = (await http.post("/v1/jobs", json={"kind": "hold"})).json()
    async with service.connected() as peer:
        await peer.ask(op="subscribe", sub="a", job=job["id"])
        await peer.ask(op="subscribe", sub="t", topic="t")
        assert service.engine.live.streams.followed == 1
    await eventually(lambda: service.engine.live.listeners == 0)
    assert service.engine.live.streams.followed == 0
    assert service.engine.live.topics.followed == 0


async def test_a_stop_says_when_to_come_back(service, http):
    async with service.connected() as peer:
        service.runtime.drain()
        drain = await peer.receive()
        assert drain["type"] == "drain"
        assert 0.5 <= drain["reconnect_after"] <= 3.0
        assert await peer.closed() == 1012
        with pytest.raises(InvalidStatus) as refused:
            async with connected(service.url):
                pass
        assert refused.value.response.status_code == 503


async def test_a_stop_does_not_wait_for_who_has_not_said_who_asks(serve):
    service = await serve(**KEYS)
    async with service.connected() as peer:
        service.runtime.drain()
        assert (await peer.receive())["type"] == "drain"
        assert await peer.closed() == 1012


async def test_a_request_that_a_proxy_has_made_a_plain_one_of_hears_so(http):
    answer = await http.get("/v1/live")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    assert "Upgrade" in answer.json()["detail"]


async def test_there_is_no_other_socket(service):
    with pytest.raises(InvalidStatus) as refused:
        async with connected(service.url + "/elsewhere"):
            pass
    assert refused.value.response.status_code == 404


async def test_a_socket_that_is_over_leaves_no_connection_behind(service):
    async with service.connected() as peer:
        await peer.ask(op="publish", ref="1", topic="t", data=1)
        assert service.connections.live == 1
    await eventually(lambda: service.connections.live == 0)
