"""`unique`: at most one unfinished job of a key."""

import asyncio

import pytest

from quarterdeck.domain.unique import UniqueOption, unique_key


async def submit(client, **options):
    return await client.call("POST", "/v1/jobs", body={"kind": "hold", **options})


async def test_a_unique_hit_answers_with_the_job_that_holds_the_key(client, gate):
    first = await submit(client, unique={"key": "only-one"})
    assert (first.status, first.json["unique_key"]) == (202, "only-one")
    assert "Quarterdeck-Duplicate" not in first.headers
    second = await submit(client, unique={"key": "only-one"}, priority=1)
    assert (second.status, second.json["id"], second.json["priority"]) == (200, first.json["id"], 5)
    assert second.headers["Quarterdeck-Duplicate"] == "true"
    assert second.headers["Location"] == f"/v1/jobs/{first.json['id']}"
    gate.set()
    ended = await client.get(f"/v1/jobs/{first.json['id']}", Prefer="wait=10")
    assert ended.json["state"] == "completed"
    third = await submit(client, unique={"key": "only-one"})
    assert (third.status, third.json["id"] != first.json["id"]) == (202, True)


async def test_a_period_holds_the_key_beyond_the_end(client, gate, connection):
    gate.set()
    body = {"unique": {"key": "hourly", "period": "1h"}}
    first = await submit(client, **body)
    await client.get(f"/v1/jobs/{first.json['id']}", Prefer="wait=10")
    second = await submit(client, **body)
    assert (second.status, second.json["id"], second.json["state"]) == (200, first.json["id"], "completed")
    await connection.execute("update quarterdeck.unique_key set held_until = now() - interval '1 second'")
    assert (await submit(client, **body)).status == 202


@pytest.mark.parametrize("end", ["cancel", "expire", "crash"])
async def test_every_end_frees_the_key(client, connection, end):
    delayed = {"unique": {"key": "k"}, "delay": "1h"}
    first = await submit(client, **delayed)
    path = f"/v1/jobs/{first.json['id']}"
    if end == "cancel":
        assert (await client.call("POST", f"{path}/cancel")).json["state"] == "cancelled"
    elif end == "expire":
        await connection.execute("update quarterdeck.job set expires_at = now() - interval '1 second'")
    else:
        await connection.execute(
            "update quarterdeck.job set state = 'running', worker = 'gone', attempt = 1, fence = 1, crashes = 2"
        )
    ended = await client.get(path, Prefer="wait=20")
    assert ended.json["state"] in ("cancelled", "discarded")
    assert await connection.fetchval("select count(*) from quarterdeck.unique_key") == 0
    assert (await submit(client, **delayed)).status == 202


async def test_keys_are_kept_apart_by_queue(client):
    assert (await submit(client, unique={"key": "k"}, queue="a")).status == 202
    assert (await submit(client, unique={"key": "k"}, queue="b")).status == 202
    assert (await submit(client, unique={"key": "k"}, queue="a")).status == 200


async def test_true_means_kind_and_args(client):
    async def add(left, right, unique):
        return await client.submit("add", {"left": left, "right": right}, unique=unique, delay="1h")

    first = await add(1, 2, unique=True)
    assert first.status == 202
    assert (await add(1, 2, unique={})).json["id"] == first.json["id"]
    assert (await add(1, 2, unique={"by": ["kind", "args"]})).json["id"] == first.json["id"]
    assert (await add(2, 1, unique=True)).status == 202
    assert (await add(1, 2, unique=False)).status == 202
    by_left = await add(9, 1, unique={"by": ["left"]})
    assert by_left.status == 202
    assert (await add(9, 2, unique={"by": ["left"]})).json["id"] == by_left.json["id"]


@pytest.mark.parametrize(
    ("unique", "pointer"),
    [
        ({"key": "k", "by": ["args"]}, "/unique/by"),
        ({"key": "{nobody}"}, "/unique/key"),
        ({"key": "{"}, "/unique/key"),
        ({"key": ""}, "/unique/key"),
        ({"key": "x" * 513}, "/unique/key"),
        ({"by": []}, "/unique/by"),
        ({"by": ["nobody"]}, "/unique/by/0"),
        ({"period": "soon"}, "/unique/period"),
        ({"what": 1}, "/unique/what"),
        ("yes", "/unique"),
    ],
)
async def test_what_cannot_be_a_key_is_refused_with_a_pointer(client, unique, pointer):
    answer = await client.submit("add", {"left": 1, "right": 2}, unique=unique)
    problem = answer.problem(422, "invalid")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("template", "args", "key"),
    [
        ("customer:{id}", {"id": "7"}, "customer:7"),
        ("customer:{id}", {"id": 7}, "customer:7"),
        ("{a}-{b}", {"a": {"y": 1, "x": [1, 2]}, "b": None}, '{"x":[1,2],"y":1}-null'),
        ("{{{a}}}", {"a": True}, "{true}"),
        ("plain", {}, "plain"),
    ],
)
def test_a_template_is_rendered_over_the_arguments(template, args, key):
    assert unique_key(UniqueOption(key=template), "kind", "queue", args) == key


def test_the_order_of_arguments_does_not_matter():
    one, two = {"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}
    assert unique_key(UniqueOption(), "k", "q", one) == unique_key(UniqueOption(), "k", "q", two)


async def test_many_at_once_make_one_job(client, connection):
    answers = await asyncio.gather(*(submit(client, unique={"key": "one"}, delay="1h") for _ in range(50)))
    assert sorted(answer.status for answer in answers) == [200] * 49 + [202]
    assert len({answer.json["id"] for answer in answers}) == 1
    assert await connection.fetchval("select count(*) from quarterdeck.job") == 1


async def test_a_dry_run_shows_the_key_and_takes_it_from_nobody(client):
    shown = await client.submit("hold", query="?dry_run=1", unique={"key": "k"})
    assert (shown.status, shown.json["unique_key"]) == (200, "k")
    assert (await submit(client, unique={"key": "k"})).status == 202
