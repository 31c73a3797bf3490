"""Tickets over HTTP."""

import datetime as dt
import uuid

import pytest

from quarterdeck.bootstrap import Runtime
from quarterdeck.config import Settings
from quarterdeck.domain.ticket import Ticket
from quarterdeck.web.app import create_app
from tests.contract.client import Client
from tests.support.running import worker_of
from tests.support.waiting import eventually

PATH = "/v1/tickets"
JOB = "0193b5c0-0000-7000-8000-000000000000"
ALL = Ticket("anybody", "default", frozenset({"*"}))
JSON = {"Content-Type": "application/json"}


async def redeem(runtime, answer):
    """What the ticket in an answer allows."""
    assert answer.status == 201, answer.body
    assert set(answer.json) == {"ticket", "expires_at"}
    return await runtime.engine.live.tickets.redeem(answer.json["ticket"])


async def test_a_ticket_can_be_used_once_within_half_a_minute(client, runtime):
    answer = await client.call("POST", PATH, body={})
    left = dt.datetime.fromisoformat(answer.json["expires_at"]) - dt.datetime.now(dt.UTC)
    assert dt.timedelta(seconds=20) < left < dt.timedelta(seconds=40)
    assert answer.headers["Cache-Control"] == "no-store"
    assert await redeem(runtime, answer) == ALL
    assert await redeem(runtime, answer) is None


@pytest.mark.parametrize(
    ("text", "headers"), [(None, {}), (b"", {}), (b"", JSON), (b"{}", JSON), (b'{"tag": null, "job": null}', JSON)]
)
async def test_the_body_may_be_left_out(client, runtime, text, headers):
    if text == b"":
        headers = {**headers, "Content-Length": "0"}
    answer = await client.call("POST", PATH, text=text or None, headers=headers)
    assert await redeem(runtime, answer) == ALL


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"job": JOB}, {"job": uuid.UUID(JOB)}),
        ({"tag": "a tag/ü"}, {"tag": "a tag/ü"}),
        ({"tag": "x" * 128}, {"tag": "x" * 128}),
        ({"topic": "news"}, {"topic": "news"}),
        ({"topic": "news", "tag": None}, {"topic": "news"}),
    ],
)
async def test_a_ticket_may_be_limited_to_one_thing(client, runtime, limits, expected):
    answer = await client.call("POST", PATH, body=limits)
    assert await redeem(runtime, answer) == Ticket("anybody", "default", frozenset({"*"}), **expected)


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"job": JOB, "tag": "a"}, ["/tag"]),
        ({"job": JOB, "tag": "a", "topic": "t"}, ["/tag", "/topic"]),
        ({"tag": "a", "topic": "-"}, ["/topic", "/topic"]),
        ({"job": "x"}, ["/job"]),
        ({"job": 1}, ["/job"]),
        ({"tag": ""}, ["/tag"]),
        ({"tag": "x" * 129}, ["/tag"]),
        ({"tag": ["a"]}, ["/tag"]),
        ({"topic": "a b"}, ["/topic"]),
        ({"topic": ""}, ["/topic"]),
        ({"queue": "a"}, ["/queue"]),
        ([], [""]),
        ("job", [""]),
    ],
)
async def test_a_limit_that_breaks_a_rule_is_pointed_at(client, connection, body, pointers):
    answer = await client.call("POST", PATH, body=body)
    answer.problem(422, "invalid")
    assert answer.pointers == pointers
    assert await connection.fetch("select from quarterdeck.ticket") == []


@pytest.mark.parametrize(
    ("text", "headers", "status", "slug"),
    [
        (b"{", {}, 400, "malformed-json"),
        (b" ", {}, 400, "malformed-json"),
        (b"null", {}, 422, "invalid"),
        (b'{"tag": "a", "tag": "b"}', {}, 400, "malformed-json"),
        (b'{"tag": "\\u0000"}', {}, 422, "invalid"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported-media-type"),
        (b'{"tag": "' + b"x" * 5000 + b'"}', {}, 413, "body-too-large"),
    ],
)
async def test_a_body_that_cannot_be_used_is_refused(client, text, headers, status, slug):
    (await client.call("POST", PATH, text=text, headers=headers)).problem(status, slug)


async def test_a_ticket_takes_no_query(client):
    (await client.call("POST", f"{PATH}?job={JOB}")).problem(400, "bad-query")


async def test_a_ticket_is_its_callers_and_needs_a_key_where_the_rest_does(database_url):
    runtime = Runtime(Settings(database_url=database_url, shutdown_grace=0, api_keys="ann:the-secret-of-ann"))
    app = create_app(runtime)
    async with app.test_app():
        await eventually(lambda: worker_of(runtime))
        client = Client(app)
        (await client.call("POST", PATH)).problem(401, "unauthenticated")
        answer = await client.call("POST", PATH, headers={"Authorization": "Bearer the-secret-of-ann"})
        assert (await redeem(runtime, answer)).principal == "ann"


async def test_a_ticket_is_in_no_log(client, runtime, caplog, capfd):
    caplog.set_level(0)
    answer = await client.call("POST", PATH, body={"topic": "news"})
    ticket = answer.json["ticket"]
    await client.get(f"/v1/jobs/{JOB}?ticket={ticket}")
    await redeem(runtime, answer)
    await redeem(runtime, answer)
    captured = capfd.readouterr()
    said = "".join([captured.out, captured.err, caplog.text, *(str(vars(record)) for record in caplog.records)])
    assert ticket not in said
