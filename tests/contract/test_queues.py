"""Queues over HTTP."""

import datetime as dt

import msgspec
import pytest

from quarterdeck.domain.queue import LATER
from tests.support.factories import new_job, open_stores
from tests.support.waiting import eventually

DEFAULTS = {
    "paused": False,
    "concurrency": None,
    "concurrency_per_key": 1,
    "rate": None,
    "rate_per_key": None,
    "retention": None,
    "max_depth": None,
}
EMPTY = {"available": 0, "running": 0, "scheduled": 0, "retryable": 0, "pending": 0}


async def patch(client, name, **settings):
    return await client.call("PATCH", f"/v1/queues/{name}", body=settings)


async def depth_once(client, name, **expected):
    """The queue, once its depth is as expected: counts are up to half a second old."""

    async def counted():
        queue = (await client.get(f"/v1/queues/{name}")).json
        assert queue["depth"] == {**EMPTY, **expected}
        return queue

    return await eventually(counted)


async def test_a_queue_that_nobody_named_has_the_defaults(client):
    answer = await client.get("/v1/queues/nobody")
    assert answer.status == 200
    queue = answer.json
    as_of = dt.datetime.fromisoformat(queue.pop("as_of"))
    assert abs(dt.datetime.now(dt.UTC) - as_of) < dt.timedelta(seconds=30)
    assert queue == {"name": "nobody", "depth": EMPTY, "oldest_available_age": None, "throughput": 0.0, **DEFAULTS}
    assert answer.headers["Cache-Control"] == "no-store"
    assert (await client.get("/v1/queues")).json == {"items": [], "next": None}


async def test_a_queue_tells_its_depth_its_oldest_job_and_its_throughput(client, gate):
    await patch(client, "rest", paused=True)
    for _ in range(3):
        assert (await client.submit("hold", queue="rest")).status == 202
    await client.submit("hold", queue="rest", delay=60)
    await client.submit("hold", queue="busy")
    rest = await depth_once(client, "rest", available=3, scheduled=1)
    assert 0 <= rest["oldest_available_age"] < 30
    busy = await depth_once(client, "busy", running=1)
    assert busy["oldest_available_age"] is None
    gate.set()

    async def counted():
        return (await client.get("/v1/queues/busy")).json["throughput"] == 0.1

    await eventually(counted)


async def test_a_count_is_at_most_half_a_second_old(client, runtime):
    ages = []
    for _ in range(60):
        asked = runtime.engine.clock.now()  # from when on the count was at hand: the answer may take its time
        queue = (await client.get("/v1/queues/default")).json
        ages.append(asked - dt.datetime.fromisoformat(queue["as_of"]))
    assert max(ages) < dt.timedelta(seconds=0.5)


async def test_queues_are_listed_by_name_in_pages(client):
    for name in ("b", "a", "d"):
        await patch(client, name)
    await client.submit("hold", queue="c")
    page = (await client.get("/v1/queues?limit=3")).json
    assert [queue["name"] for queue in page["items"]] == ["a", "b", "c"]
    assert set(page["items"][0]) == {"name", "depth", "as_of", "oldest_available_age", "throughput", *DEFAULTS}
    assert page["next"].replace("-", "").replace("_", "").isalnum()
    page = (await client.get(f"/v1/queues?limit=3&cursor={page['next']}")).json
    assert ([queue["name"] for queue in page["items"]], page["next"]) == (["d"], None)


async def test_what_is_patched_is_told_and_kept(client):
    answer = await patch(client, "a", paused=True, max_depth=10)
    assert (answer.status, answer.json["paused"], answer.json["max_depth"]) == (200, True, 10)
    assert (await patch(client, "a", max_depth=20)).json["paused"] is True
    queue = (await client.get("/v1/queues/a")).json
    assert (queue["paused"], queue["max_depth"]) == (True, 20)
    assert DEFAULTS.items() <= (await patch(client, "a", **dict.fromkeys(DEFAULTS))).json.items()
    assert DEFAULTS.items() <= (await client.get("/v1/queues/a")).json.items()


ILLEGAL = ["-a", "a%20b", "%C3%A4", "x" * 129, "a%00", "a%0A", "%FF", "a%2Fb", "."]


async def test_an_illegal_name_is_of_no_queue(client):
    for name in ILLEGAL:
        (await client.get(f"/v1/queues/{name}")).problem(404, "not-found")
        (await patch(client, name)).problem(404, "not-found")


async def test_the_longest_name_is_legal(client):
    name = "_" + "a.b:c-D" * 18 + "x"
    assert len(name) == 128
    assert (await patch(client, name, paused=True)).json["name"] == name


BAD_SETTINGS = [
    ([], [""]),
    ("paused", [""]),
    ({"paused": 1}, ["/paused"]),
    ({"paused": "true"}, ["/paused"]),
    ({"max_depth": 0}, ["/max_depth"]),
    ({"max_depth": -1}, ["/max_depth"]),
    ({"max_depth": 1.5}, ["/max_depth"]),
    ({"max_depth": "10"}, ["/max_depth"]),
    ({"max_depth": True}, ["/max_depth"]),
    ({"max_depth": 2**63}, ["/max_depth"]),
    ({"concurrency": 0}, ["/concurrency"]),
    ({"concurrency": "5"}, ["/concurrency"]),
    ({"concurrency": 2**31}, ["/concurrency"]),
    ({"concurrency_per_key": -1}, ["/concurrency_per_key"]),
    ({"rate": 5}, ["/rate"]),
    ({"rate": "5"}, ["/rate"]),
    ({"rate": "x" * 5000}, ["/rate"]),
    ({"rate_per_key": "5/0s"}, ["/rate_per_key"]),
    ({"retention": "long"}, ["/retention"]),
    ({"retention": -1}, ["/retention"]),
    ({"retention": True}, ["/retention"]),
    ({"name": "b"}, ["/name"]),
    ({"depth": {}}, ["/depth"]),
    ({"rate": "x", "retention": "y"}, ["/rate", "/retention"]),
]


async def test_a_setting_that_breaks_a_rule_is_pointed_at_and_nothing_is_set(client):
    for document, pointers in BAD_SETTINGS:
        answer = await client.call("PATCH", "/v1/queues/a", text=msgspec.json.encode(document))
        answer.problem(422, "invalid")
        assert answer.pointers == pointers, document
    assert (await client.get("/v1/queues")).json["items"] == []


async def test_settings_of_later_releases_are_refused_and_the_queue_goes_on(client):
    for field in LATER:
        value = "100/1m" if field.startswith("rate") else 5
        problem = (await patch(client, "default", paused=True, **{field: value})).problem(422, "invalid")
        assert problem["errors"] == [{"pointer": f"/{field}", "detail": "not supported by this release"}]
    done = await client.submit("add", {"left": 1, "right": 2}, headers={"Prefer": "wait=10"})
    assert done.json["result"] == 3


@pytest.mark.parametrize(
    ("text", "headers", "status", "slug"),
    [
        (b"{", {}, 400, "malformed-json"),
        (b'{"paused": true, "paused": false}', {}, 400, "malformed-json"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported-media-type"),
        (b'{"rate": "' + b"x" * 70_000 + b'"}', {}, 413, "body-too-large"),
    ],
    ids=["cut off", "a key twice", "no JSON", "too large"],
)
async def test_a_body_that_cannot_be_used_is_refused(client, text, headers, status, slug):
    (await client.call("PATCH", "/v1/queues/a", text=text, headers=headers)).problem(status, slug)


BAD_QUERIES = [
    *("limit=0", "limit=201", "limit=x", "limit=1&limit=2", "cursor=", "cursor=%00", "cursor=!", "cursor=YQ", "a=1"),
    *(
        "cursor=WyJcdTAwMDAiXQ",
        "cursor=WzFd",
        "cursor=W10",
        "cursor=WyJhIiwiYiIsImMiXQ",
    ),  # JSON, but no place in a list
]


@pytest.mark.parametrize("path", ["queues", "kinds", "workers"])
async def test_a_query_that_cannot_be_used_is_refused(client, path):
    for query in BAD_QUERIES:
        (await client.get(f"/v1/{path}?{query}")).problem(400, "bad-query")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "queues"), ("PUT", "queues/a"), ("DELETE", "queues/a"), ("POST", "kinds"), ("DELETE", "workers")],
)
async def test_other_methods_are_refused(client, method, path):
    assert "GET" in (await client.call(method, f"/v1/{path}")).problem(405, "method-not-allowed")["detail"]


async def test_a_full_queue_refuses_submits_and_says_when_to_try_again(client):
    await patch(client, "a", paused=True, max_depth=2)
    for _ in range(2):
        assert (await client.submit("hold", queue="a")).status == 202
    answer = await client.submit("hold", queue="a")
    assert "'a'" in answer.problem(429, "queue-full")["detail"]
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["RateLimit-Policy"] == '"max_depth";q=2'
    assert answer.headers["RateLimit"] == '"max_depth";r=0;t=1'
    assert (await client.submit("hold", queue="b")).status == 202
    await patch(client, "a", max_depth=None)
    assert (await client.submit("hold", queue="a")).status == 202


async def test_a_full_queue_still_answers_who_asks_again_with_a_key(client):
    await patch(client, "a", paused=True, max_depth=2)
    key = {"Idempotency-Key": "k"}
    first = await client.submit("hold", queue="a", headers=key)
    unique = await client.submit("hold", queue="a", unique=True)
    assert (first.status, unique.status) == (202, 202)

    again = await client.submit("hold", queue="a", headers=key)
    assert (again.status, again.body, again.headers["Idempotent-Replayed"]) == (202, first.body, "true")
    found = await client.submit("hold", queue="a", unique=True)
    assert (found.status, found.json["id"], found.headers["Quarterdeck-Duplicate"]) == (200, unique.json["id"], "true")

    other_body = await client.submit("hold", queue="a", priority=1, headers=key)
    other_body.problem(422, "idempotency-mismatch")
    for options in ({"unique": {"key": "other"}}, {"headers": {"Idempotency-Key": "other"}}):
        (await client.submit("hold", queue="a", **options)).problem(429, "queue-full")


# Kinds and workers


async def test_kinds_are_described_with_their_schema_defaults_and_live_workers(client):
    kinds = {kind["name"]: kind for kind in (await client.get("/v1/kinds")).json["items"]}
    assert list(kinds) == sorted(kinds)
    assert {"add", "hold", "fail", "give_up", "quarterdeck.echo"} <= set(kinds)
    add = kinds["add"]
    assert set(add) == {"name", "schema", "defaults", "live", "first_seen", "last_seen"}
    assert set(add["schema"]["required"]) == {"left", "right"}
    assert add["live"] == 1
    assert add["first_seen"] <= add["last_seen"]
    expected = {"queue": "default", "priority": 5, "timeout": 900.0, "max_attempts": 5, "retry": None, "ttl": None}
    assert expected.items() <= add["defaults"].items()
    assert kinds["fail"]["defaults"]["max_attempts"] == 1


async def test_kinds_come_in_pages(client):
    names, query = [], "?limit=2"
    while True:
        page = (await client.get(f"/v1/kinds{query}")).json
        assert len(page["items"]) <= 2
        names += [kind["name"] for kind in page["items"]]
        if page["next"] is None:
            break
        query = f"?limit=2&cursor={page['next']}"
    assert names == [kind["name"] for kind in (await client.get("/v1/kinds")).json["items"]]


async def test_live_workers_are_listed_newest_first_and_dead_ones_are_not(client, runtime, database_url):
    async with open_stores(database_url) as stores:
        other = await stores.register(queues="a,b=5", slots=3)
        await stores.register(lease=0.0)
    page = (await client.get("/v1/workers")).json
    here = runtime.engine.parts.lease.worker()
    assert ([worker["id"] for worker in page["items"]], page["next"]) == ([other, here], None)
    theirs, ours = page["items"]
    assert (theirs["queues"], theirs["slots"], theirs["running"]) == ("a,b=5", 3, 0)
    assert (ours["role"], ours["queues"], ours["draining"]) == ("all", None, False)
    assert "hold" in ours["kinds"]
    assert set(ours) == {
        *("id", "host", "pid", "role", "queues", "kinds", "slots", "running", "draining", "version"),
        *("started_at", "beat_at", "lease_until"),
    }
    first = (await client.get("/v1/workers?limit=1")).json
    second = (await client.get(f"/v1/workers?limit=1&cursor={first['next']}")).json
    assert [page["items"][0]["id"] for page in (first, second)] == [other, here]


async def test_a_job_whose_kind_nobody_runs_is_shown_as_unroutable(client, runtime, database_url):
    job = new_job(kind="strange")
    async with open_stores(database_url) as stores:
        await stores.execute(
            "insert into quarterdeck.kind (name, schema, last_seen) values ('strange', '{}', now() - interval '1 hour')"
        )
        await stores.insert(job)
    answer = await client.get(f"/v1/jobs/{job.id}")
    assert (answer.json["state"], answer.json["state_reason"], answer.json["seq"]) == ("available", "unroutable", 1)
