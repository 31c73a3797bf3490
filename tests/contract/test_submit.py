"""POST /v1/jobs: what is accepted, and what is answered."""

import re
import uuid

import pytest

# Section 3 of the contract, in its order.
KEYS = [
    "id",
    "kind",
    "queue",
    "state",
    "state_reason",
    "state_detail",
    "args",
    "priority",
    "attempt",
    "max_attempts",
    "generation",
    "crashes",
    "timeout",
    "created_at",
    "run_at",
    "expires_at",
    "attempted_at",
    "finalized_at",
    "tags",
    "metadata",
    "unique_key",
    "concurrency_key",
    "workflow_id",
    "cached_from",
    "progress",
    "result",
    "errors",
    "worker",
    "seq",
]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
SUM = {"left": 1, "right": 2}
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_submit_is_answered_by_202_with_the_job_and_where_it_is(client):
    answer = await client.submit("add", SUM)
    assert answer.status == 202
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json['id']}"
    assert uuid.UUID(answer.json["id"]).version == 7
    assert (await client.get(answer.headers["Location"])).json["id"] == answer.json["id"]


async def test_a_job_has_the_keys_of_the_contract_in_their_order(client):
    submitted = (await client.submit("add", SUM, headers={"Prefer": "wait=10"})).json
    looked_up = (await client.get(f"/v1/jobs/{submitted['id']}")).json
    assert list(submitted) == KEYS
    assert list(looked_up) == KEYS
    assert submitted == looked_up
    assert all(TIME.fullmatch(looked_up[name]) for name in ("created_at", "run_at", "attempted_at", "finalized_at"))
    assert looked_up["expires_at"] is None
    assert (looked_up["state"], looked_up["result"], looked_up["attempt"], looked_up["errors"]) == (
        "completed",
        3,
        1,
        [],
    )


async def test_every_option_of_a_submit_is_in_the_job(client):
    answer = await client.submit(
        "add",
        SUM,
        queue="sums",
        priority=1,
        run_at="2033-05-18T05:33:20.5+02:00",
        ttl="1h",
        timeout="PT90S",
        max_attempts=3,
        retry={"backoff": "fixed", "base": 2},
        tags=["a", "ü"],
        metadata={"z": 1, "a": [None]},
    )
    job = answer.json
    assert answer.status == 202
    assert (job["queue"], job["priority"], job["state"]) == ("sums", 1, "scheduled")
    assert (job["run_at"], job["expires_at"]) == ("2033-05-18T03:33:20.500Z", "2033-05-18T04:33:20.500Z")
    assert (job["timeout"], job["max_attempts"]) == (90.0, 3)
    assert (job["tags"], list(job["metadata"].items())) == (["a", "ü"], [("z", 1), ("a", [None])])


async def test_who_prefers_to_wait_gets_the_ended_job(client):
    answer = await client.submit("add", SUM, headers={"Prefer": 'respond-async; x="a,wait=1", WAIT="10" ; y, wait=0'})
    assert answer.status == 200
    assert answer.headers["Preference-Applied"] == "wait=10"
    assert answer.json["result"] == 3


async def test_who_prefers_to_wait_gets_a_failed_job_too(client):
    answer = await client.submit("fail", headers={"Prefer": "wait=10"})
    assert answer.status == 200
    assert (answer.json["state"], answer.json["result"]) == ("discarded", None)
    (error,) = answer.json["errors"]
    assert (error["attempt"], error["type"], error["message"]) == (1, "ValueError", "no such luck")


async def test_waiting_ends_when_the_time_is_over(client, gate):
    answer = await client.submit("hold", headers={"Prefer": "wait=1"})
    assert answer.status == 202
    assert answer.headers["Preference-Applied"] == "wait=1"
    assert answer.json["state"] == "running"
    gate.set()


@pytest.mark.parametrize("prefer", ["return=minimal", "wait", "wait=", "wait=-1", "wait=1.5", "wait=soon", "await=5"])
async def test_other_preferences_are_ignored(client, prefer):
    answer = await client.submit("hold", headers={"Prefer": prefer})
    assert answer.status == 202
    assert "Preference-Applied" not in answer.headers


async def test_a_dry_run_checks_everything_and_stores_nothing(client, connection):
    answer = await client.submit("add", SUM, query="?dry_run=1", priority=3, delay="1m", ttl=30)
    job = answer.json
    assert answer.status == 200
    assert "Location" not in answer.headers
    assert list(job) == KEYS
    assert (job["state"], job["priority"], job["seq"], job["attempt"]) == ("scheduled", 3, 1, 0)
    assert job["created_at"] < job["run_at"] < job["expires_at"]
    assert (await client.submit("add", SUM, query="?dry_run=true")).json["state"] == "available"
    (await client.submit("add", {"left": 1}, query="?dry_run=1")).problem(422, "invalid")
    (await client.get(f"/v1/jobs/{job['id']}")).problem(404, "not-found")
    assert await connection.fetchval("select count(*) from quarterdeck.job") == 0
    assert await connection.fetchval("select count(*) from quarterdeck.job_history") == 0


async def test_a_dry_run_may_be_declined(client):
    assert (await client.submit("add", SUM, query="?dry_run=0")).status == 202


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (TRACEPARENT, TRACEPARENT),
        (TRACEPARENT.upper(), None),
        ("00-" + "0" * 32 + TRACEPARENT[35:], None),
        ("ff" + TRACEPARENT[2:], None),
        ("none", None),
    ],
)
async def test_the_callers_trace_is_kept_with_the_job(client, connection, given, kept):
    job = (await client.submit("hold", delay=60, headers={"traceparent": given})).json
    found = await connection.fetchval("select traceparent from quarterdeck.job where id = $1", uuid.UUID(job["id"]))
    assert found == kept
