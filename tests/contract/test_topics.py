"""Topics over HTTP."""

import asyncio
import datetime as dt

import msgspec
import pytest

from quarterdeck.domain.topic import MAX_MESSAGE_BYTES
from quarterdeck.web.paging import cursor_of

PATH = "/v1/topics/news/messages"
ILLEGAL = ["-a", "a%20b", "%C3%A4", "x" * 129, "a%00", "a%0A", "%FF", "."]


async def publish(client, value, path=PATH, **headers):
    given = {name.replace("_", "-"): text for name, text in headers.items()}
    return await client.call("POST", path, text=msgspec.json.encode(value), headers=given)


async def pages(client, query=""):
    """The ids on each page of a list, up to its end."""
    found, cursor = [], ""
    while cursor is not None:
        answer = await client.get(f"{PATH}?limit=3{query}{cursor and f'&cursor={cursor}'}")
        assert answer.status == 200, answer.body
        found.append([message["id"] for message in answer.json["items"]])
        cursor = answer.json["next"]
    return found


@pytest.mark.parametrize("value", [None, True, 0, -1.5, "", "ü\n", [], {}, {"b": [1, {"a": None}]}, 2**64 - 1])
async def test_any_json_value_is_a_message(client, value):
    answer = await publish(client, value)
    assert (answer.status, answer.json) == (202, {"id": 1})
    answer = await client.get(PATH)
    assert answer.headers["Cache-Control"] == "no-store"
    ((message,), following) = answer.json["items"], answer.json["next"]
    at = dt.datetime.fromisoformat(message.pop("at"))
    assert abs(dt.datetime.now(dt.UTC) - at) < dt.timedelta(seconds=30)
    assert (message, following) == ({"id": 1, "data": value}, None)


async def test_a_message_goes_to_who_follows_the_topic(client, runtime):
    ready = asyncio.Event()
    with await runtime.engine.live.topics.follow("default", "news", None, ready.set) as following:
        await publish(client, {"a": 1})
        await asyncio.wait_for(ready.wait(), 15)
        (message,) = await following.take()
    assert (message.id, bytes(message.data)) == (1, b'{"a":1}')


async def test_messages_are_listed_newest_first_in_pages(client):
    for number in range(1, 9):
        assert (await publish(client, number)).json == {"id": number}
    assert await pages(client) == [[8, 7, 6], [5, 4, 3], [2, 1]]
    assert [message["data"] for message in (await client.get(PATH)).json["items"]] == list(range(8, 0, -1))


async def test_messages_after_one_are_listed_oldest_first_in_pages_and_a_poller_goes_on(client):
    for number in range(1, 9):
        await publish(client, number)
    assert await pages(client, "&after=0") == [[1, 2, 3], [4, 5, 6], [7, 8]]
    assert await pages(client, "&after=5") == [[6, 7, 8]]
    assert await pages(client, "&after=8") == await pages(client, f"&after={2**63 - 1}") == [[]]
    await publish(client, 9)
    assert await pages(client, "&after=8") == [[9]]


async def test_a_topic_that_nothing_was_published_to_has_no_messages(client):
    for query in ("", "?after=0", "?after=7"):
        answer = await client.get(f"/v1/topics/nobody/messages{query}")
        assert (answer.status, answer.json) == (200, {"items": [], "next": None})


async def test_large_messages_make_shorter_pages(client):
    for _ in range(9):
        await publish(client, "x" * (MAX_MESSAGE_BYTES - 2))
    for query, order in (("", range(9, 0, -1)), ("&after=0", range(1, 10))):
        first = (await client.get(f"{PATH}?limit=100{query}")).json
        ids = [message["id"] for message in first["items"]]
        assert 1 < len(ids) < 9
        rest = (await client.get(f"{PATH}?limit=100{query}&cursor={first['next']}")).json
        assert (ids + [message["id"] for message in rest["items"]])[:8] == list(order)[:8]


async def test_what_is_not_kept_any_more_shows_in_the_ids(client, connection):
    for number in range(1, 5):
        await publish(client, number)
    await connection.execute("update quarterdeck.topic_message set at = at - interval '61 minutes' where id < 4")
    assert await pages(client, "&after=1") == [[4]]
    assert (await pages(client))[0] == [4]


async def test_topics_of_other_tenants_are_not_there(client, runtime):
    await runtime.engine.live.topics.publish("acme", "news", b'"theirs"')
    assert (await client.get(PATH)).json["items"] == (await client.get(f"{PATH}?after=0")).json["items"] == []
    assert (await publish(client, "ours")).json == {"id": 1}


async def test_an_illegal_name_is_of_no_topic(client):
    for name in ILLEGAL:
        (await client.get(f"/v1/topics/{name}/messages")).problem(404, "not-found")
        (await publish(client, 1, f"/v1/topics/{name}/messages")).problem(404, "not-found")


async def test_the_longest_name_is_legal(client):
    name = "_" + "a.b:c-D" * 18 + "x"
    assert (await publish(client, 1, f"/v1/topics/{name}/messages")).status == 202


DEEP = b"[" * 33 + b"]" * 33


@pytest.mark.parametrize(
    ("text", "headers", "status", "slug"),
    [
        (b"", {"Content-Type": "application/json"}, 400, "malformed-json"),
        (b"{", {}, 400, "malformed-json"),
        (b"NaN", {}, 400, "malformed-json"),
        (b'{"a": 1, "a": 2}', {}, 400, "malformed-json"),
        (b'"\xff"', {}, 400, "malformed-json"),
        (b"1 2", {}, 400, "malformed-json"),
        (b"1", {"Content-Type": "text/plain"}, 415, "unsupported-media-type"),
        (b'"' + b"x" * (MAX_MESSAGE_BYTES - 1) + b'"', {}, 413, "body-too-large"),
        (b'"\\u0000"', {}, 422, "invalid"),
        (b'"\\ud800"', {}, 422, "invalid"),
        (b"18446744073709551616", {}, 422, "invalid"),
        (b"[" + b"1e15," * 13_000 + b"1]", {}, 422, "invalid"),
        (DEEP, {}, 422, "invalid"),
        (DEEP[:-1], {}, 400, "malformed-json"),
        (b"1", {"Idempotency-Key": ""}, 422, "invalid"),
    ],
)
async def test_a_body_that_cannot_be_used_is_refused(client, text, headers, status, slug):
    (await client.call("POST", PATH, text=text, headers=headers)).problem(status, slug)
    assert (await client.get(PATH)).json["items"] == []


async def test_a_message_may_be_as_deep_and_as_large_as_it_may(client):
    assert (await client.call("POST", PATH, text=DEEP[1:-1])).status == 202
    assert (await publish(client, "x" * (MAX_MESSAGE_BYTES - 2))).status == 202


BAD_QUERIES = [
    *("limit=0", "limit=201", "limit=x", "after=-1", "after=x", "after=1.5", "after=", f"after={2**63}", "a=1"),
    *("after=null", "after=1&after=2", "cursor=", "cursor=!", "cursor=YQ", f"cursor={cursor_of('after', '1')}"),
    *(
        f"after=0&cursor={cursor_of(*place)}"
        for place in (("before", "1"), ("after",), ("after", "-1"), ("after", "²"))
    ),
    *(f"cursor={cursor_of('before', number)}" for number in ("", "x", "1" * 30, str(2**63), "1.0")),
]


async def test_a_query_that_cannot_be_used_is_refused(client):
    for query in BAD_QUERIES:
        (await client.get(f"{PATH}?{query}")).problem(400, "bad-query")
    (await publish(client, 1, f"{PATH}?after=1")).problem(400, "bad-query")


async def test_other_methods_are_refused(client):
    for method in ("PUT", "PATCH", "DELETE"):
        answer = await client.call(method, PATH, body={})
        answer.problem(405, "method-not-allowed")
        assert answer.headers["Allow"] == "GET, HEAD, OPTIONS, POST"


async def test_a_message_with_a_key_is_published_once(client):
    first = await publish(client, {"a": 1}, Idempotency_Key="k")
    assert (first.status, first.json) == (202, {"id": 1})
    assert "Idempotent-Replayed" not in first.headers
    await publish(client, 2)
    again = await publish(client, {"a": 1}, Idempotency_Key="k")
    assert (again.status, again.body, again.headers["Idempotent-Replayed"]) == (202, first.body, "true")
    (await publish(client, {"a": 2}, Idempotency_Key="k")).problem(422, "idempotency-mismatch")
    other = await publish(client, {"a": 1}, "/v1/topics/other/messages", Idempotency_Key="k")
    assert (other.json, "Idempotent-Replayed" in other.headers) == ({"id": 1}, False)
    assert (await client.submit("add", {"left": 1, "right": 2}, headers={"Idempotency-Key": "k"})).status == 202
    assert await pages(client) == [[2, 1]]


async def test_of_many_with_one_key_one_is_published(client):
    answers = await asyncio.gather(*(publish(client, 1, Idempotency_Key="k") for _ in range(10)))
    assert {answer.status for answer in answers} <= {202, 409}
    assert {answer.json["id"] for answer in answers if answer.status == 202} == {1}
    for answer in answers:
        if answer.status == 409:
            answer.problem(409, "idempotency-in-flight")
    assert await pages(client) == [[1]]


async def test_a_stopping_process_publishes_nothing(client, runtime):
    await runtime.engine.live.topics.close(1.0)
    for headers in ({}, {"Idempotency_Key": "k"}):
        answer = await publish(client, 1, **headers)
        answer.problem(503, "draining")
        assert answer.headers["Retry-After"] == "1"
