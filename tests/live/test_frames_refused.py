"""Frames that are refused: the answer says which frame it was, what is wrong in it, and where."""

import httpx
import pytest

from tests.support.sockets import connected

KEYS = {"auth": "required", "api_keys": "ada:a-secret-that-is-long-enough"}
KEY = {"Authorization": "Bearer a-secret-that-is-long-enough"}


@pytest.mark.parametrize("flaw", ['"\\u0000"', '"\\ud800"', "9" * 20, "[" * 40 + "]" * 40], ids=repr)
@pytest.mark.parametrize("name", ["ref", "sub"])
async def test_what_cannot_be_stored_is_refused_under_the_name_of_its_frame(peer, flaw, name):
    await peer.connection.send(f'{{"op":"publish","{name}":"mine","topic":"t","data":{flaw}}}')
    answer = await peer.receive()
    assert (answer["type"], answer["problem"]["status"], answer.get(name)) == ("error", 422, "mine")
    assert answer["problem"]["errors"][0]["pointer"].startswith("/data")


@pytest.mark.parametrize("flaw", ["\\u0000", "\\ud800"])
async def test_a_name_that_cannot_be_said_back_is_left_out(peer, flaw):
    await peer.connection.send(f'{{"op":"publish","ref":"a{flaw}","topic":"t","data":1}}')
    answer = await peer.receive()
    assert (answer["type"], answer["problem"]["status"], "ref" in answer) == ("error", 422, False)
    assert (await peer.ask(op="publish", ref="b", topic="t", data=1))["type"] == "ok"


@pytest.mark.parametrize("field", ["queue", "kind", "topic"])
async def test_a_name_that_nothing_can_have_is_not_followed(peer, field):
    refused = await peer.ask(op="subscribe", sub="a", **{field: "no name"})
    assert (refused["type"], refused["problem"]["status"]) == ("error", 422)
    assert refused["problem"]["errors"][0]["pointer"] == f"/{field}"
    assert (await peer.ask(op="subscribe", sub="a", **{field: "name"}))["type"] == "subscribed"


async def test_a_tag_that_nothing_can_have_is_not_followed(peer):
    refused = await peer.ask(op="subscribe", sub="a", tag="x" * 129)
    assert (refused["problem"]["status"], refused["problem"]["errors"][0]["pointer"]) == (422, "/tag")


@pytest.mark.parametrize("topic", ["no%20name", "%00", "", "x" * 129])
async def test_such_a_topic_has_no_stream_either(http, topic):
    answer = await http.get(f"/v1/events?topic={topic}")
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-query")


async def test_a_cursor_that_is_none_is_refused(peer):
    refused = await peer.ask(op="subscribe", sub="a", queue="default", cursor="x")
    assert (refused["type"], refused["problem"]["status"]) == ("error", 400)
    refused = await peer.ask(op="subscribe", sub="a", queue="default", cursor=1)
    assert (refused["type"], refused["problem"]["status"]) == ("error", 422)


@pytest.mark.parametrize(
    "frame",
    [{"op": "subscribe", "sub": "a"}, {"op": "subscribe", "sub": "a", "wait": True}, {"op": "cancel", "ref": "a"}],
)
async def test_an_id_that_is_none_is_that_of_no_job(peer, frame):
    refused = await peer.ask(**frame, job="not-an-id")
    assert (refused["type"], refused["problem"]["status"]) == ("error", 404)
    assert refused["problem"]["type"] == "/problems/not-found"


async def test_a_kind_that_nobody_knows_is_pointed_to_in_the_frame(peer):
    known, unknown = {"kind": "hold"}, {"kind": "nothing_like_it"}
    refused = await peer.ask(op="submit", ref="1", job=unknown)
    assert refused["problem"]["type"] == "/problems/unknown-kind"
    assert refused["problem"]["errors"][0]["pointer"] == "/job/kind"
    refused = await peer.ask(op="submit", ref="1", jobs=[known, unknown])
    assert refused["problem"]["errors"][0]["pointer"] == "/jobs/1/kind"


async def test_the_id_of_a_message_is_a_cursor_as_it_came(peer):
    first = await peer.ask(op="publish", ref="1", topic="t", data=1)
    await peer.ask(op="publish", ref="2", topic="t", data=2)
    for number, cursor in enumerate([first["id"], str(first["id"])]):
        assert (await peer.ask(op="subscribe", sub=f"s{number}", topic="t", cursor=cursor))["type"] == "subscribed"
        message = await peer.receive()
        assert (message["sub"], message["data"]) == (f"s{number}", 2)


async def test_a_ticket_may_come_in_the_first_frame_and_is_used_up_by_it(serve):
    service = await serve(**KEYS)
    async with httpx.AsyncClient(base_url=service.url, headers=KEY, trust_env=False) as http:
        ticket = (await http.post("/v1/tickets", json={"topic": "mine"})).json()["ticket"]
    async with connected(service.url) as peer:
        await peer.send(op="auth", token=ticket)
        assert (await peer.ask(op="subscribe", sub="a", topic="mine"))["type"] == "subscribed"
        assert (await peer.ask(op="subscribe", sub="b", topic="yours"))["problem"]["status"] == 403
    async with connected(service.url) as peer:
        await peer.send(op="auth", token=ticket)
        assert await peer.closed() == 4401


@pytest.mark.parametrize("path", ["/v1/events?all=1", "/v1/events?topic=t", "/v1/events?queue=q"])
async def test_the_head_of_a_stream_has_an_end(service, http, path):
    head = await http.head(path, timeout=5)
    assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream")
    assert (await http.get("/v1/queues", timeout=5)).status_code == 200  # on the same connection
    assert service.engine.live.listeners == 0
    assert service.engine.live.topics.followed == 0
