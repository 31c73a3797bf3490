"""Looking jobs up, taking their results, cancelling them."""

import asyncio
import time
import uuid

import pytest

from tests.support.waiting import eventually

SUM = {"left": 1, "right": 2}
NO_JOB = "0193b5c0-0000-7000-8000-000000000000"


async def submitted(client, kind, args=None, **options):
    answer = await client.submit(kind, args, **options)
    assert answer.status in (200, 202), answer.body
    return answer.json


async def ended(client, kind, args=None):
    return await submitted(client, kind, args, headers={"Prefer": "wait=10"})


# Looking up


async def test_a_job_has_an_etag_of_its_generation_and_seq(client):
    job = await ended(client, "add", SUM)
    answer = await client.get(f"/v1/jobs/{job['id']}")
    assert answer.status == 200
    assert answer.headers["ETag"] == f'"{job["generation"]}-{job["seq"]}"'
    assert answer.headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize("form", ["{}", "W/{}", '"0-0", {}', "*"])
async def test_who_knows_the_job_as_it_is_gets_a_304(client, form):
    job = await ended(client, "add", SUM)
    tag = f'"1-{job["seq"]}"'
    answer = await client.get(f"/v1/jobs/{job['id']}", If_None_Match=form.format(tag))
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["ETag"] == tag
    assert "Content-Type" not in answer.headers


@pytest.mark.parametrize("known", ['"1-1"', '"2-3"', "1-3x", '""', "junk"])
async def test_who_knows_it_otherwise_gets_the_job(client, known):
    job = await ended(client, "add", SUM)
    assert (await client.get(f"/v1/jobs/{job['id']}", If_None_Match=known)).status == 200


async def test_a_look_can_wait_for_the_end(client, gate):
    job = await submitted(client, "hold")
    look = asyncio.create_task(client.get(f"/v1/jobs/{job['id']}", Prefer="wait=30"))
    assert (await client.get(f"/v1/jobs/{job['id']}")).json["state"] == "running"
    assert not look.done()
    gate.set()
    answer = await look
    assert (answer.status, answer.json["state"], answer.json["result"]) == (200, "completed", "let go")
    assert answer.headers["Preference-Applied"] == "wait=30"


async def test_a_look_that_waited_in_vain_gets_the_job_as_it_is(client):
    job = await submitted(client, "hold")
    answer = await client.get(f"/v1/jobs/{job['id']}", Prefer="wait=1")
    assert (answer.status, answer.json["state"]) == (200, "running")


async def test_a_look_with_an_etag_waits_for_any_change(client):
    job = await submitted(client, "add", SUM, delay=3600)
    path = f"/v1/jobs/{job['id']}"
    look = asyncio.create_task(client.get(path, If_None_Match='"1-1"', Prefer="wait=30"))
    unchanged = await client.get(path, If_None_Match='"1-1"', Prefer="wait=1")
    assert (unchanged.status, unchanged.headers["Preference-Applied"]) == (304, "wait=1")
    assert not look.done()
    await client.call("POST", f"{path}/cancel")
    answer = await look
    assert (answer.status, answer.json["state"]) == (200, "cancelled")


async def test_a_look_with_an_etag_sees_a_change_that_is_no_end(client):
    job = await submitted(client, "hold")
    path = f"/v1/jobs/{job['id']}"
    tag = (await client.get(path)).headers["ETag"]
    look = asyncio.create_task(client.get(path, If_None_Match=tag, Prefer="wait=30"))
    await client.call("POST", f"{path}/cancel")
    answer = await look
    assert answer.status == 200
    assert answer.headers["ETag"] != tag


@pytest.mark.parametrize("wait", ["wait=0", "wait=60"])
async def test_who_knows_an_old_state_does_not_wait(client, wait):
    job = await submitted(client, "hold")
    began = time.monotonic()
    answer = await client.get(f"/v1/jobs/{job['id']}", If_None_Match='"0-1"', Prefer=wait)
    assert answer.status == 200
    assert time.monotonic() - began < 30


NO_ID = [
    NO_JOB,
    "1",
    "not-a-uuid",
    NO_JOB.replace("-", ""),
    f"{{{NO_JOB}}}",
    f"urn:uuid:{NO_JOB}",
    f"{NO_JOB}0",
    "%00",
    "💥",
]


async def test_what_is_not_the_id_of_a_job_is_a_404(client, subtests):
    for method, path in [("GET", ""), ("GET", "/result"), ("POST", "/cancel")]:
        for job_id in NO_ID:
            with subtests.test(f"{method} {job_id}{path}"):
                (await client.call(method, f"/v1/jobs/{job_id}{path}")).problem(404, "not-found")


async def test_an_id_may_be_in_capitals(client):
    job = await ended(client, "add", SUM)
    assert (await client.get(f"/v1/jobs/{job['id'].upper()}")).status == 200


async def test_a_job_of_another_tenant_is_a_404(client, connection):
    job = await submitted(client, "add", SUM, delay=3600)
    await connection.execute("update quarterdeck.job set tenant = 'other' where id = $1", uuid.UUID(job["id"]))
    (await client.get(f"/v1/jobs/{job['id']}")).problem(404, "not-found")
    (await client.call("POST", f"/v1/jobs/{job['id']}/cancel")).problem(404, "not-found")


async def test_a_look_takes_no_query(client):
    job = await ended(client, "add", SUM)
    (await client.get(f"/v1/jobs/{job['id']}?verbose=1")).problem(400, "bad-query")


# Results


@pytest.mark.parametrize(
    ("kind", "args", "body"),
    [
        ("add", SUM, b"3"),
        ("quarterdeck.echo", {"b": 'a"ü', "a": [1.5, None]}, '{"b":"a\\"ü","a":[1.5,null]}'.encode()),
        ("quarterdeck.echo", {}, b"{}"),
        ("quarterdeck.sleep", {"seconds": 0}, b"0.0"),
    ],
)
async def test_a_result_is_answered_bare(client, kind, args, body):
    job = await submitted(client, kind, args)
    answer = await client.get(f"/v1/jobs/{job['id']}/result", Prefer="wait=10")
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Preference-Applied"] == "wait=10"


async def test_a_result_that_is_not_there_yet_is_a_202(client, gate):
    job = await submitted(client, "hold")
    path = f"/v1/jobs/{job['id']}/result"
    answer = await client.get(path)
    assert (answer.status, answer.headers["Retry-After"], answer.json["state"]) == (202, "1", "running")
    look = asyncio.create_task(client.get(path, Prefer="wait=30"))
    gate.set()
    answer = await look
    assert (answer.status, answer.body) == (200, b'"let go"')


async def test_a_discarded_job_has_no_result(client):
    job = await ended(client, "fail")
    problem = (await client.get(f"/v1/jobs/{job['id']}/result")).problem(409, "job-discarded")
    assert (problem["state"], problem["state_reason"]) == ("discarded", "attempts_exhausted")


async def test_a_cancelled_job_has_no_result(client):
    job = await ended(client, "give_up")
    problem = (await client.get(f"/v1/jobs/{job['id']}/result", Prefer="wait=5")).problem(409, "job-cancelled")
    assert (problem["state"], problem["detail"]) == ("cancelled", "no use")


# Cancelling


async def test_a_waiting_job_is_cancelled_at_once(client):
    job = await submitted(client, "add", SUM, delay=3600)
    answer = await client.call("POST", f"/v1/jobs/{job['id']}/cancel")
    assert (answer.status, answer.json["state"]) == (200, "cancelled")


async def test_a_running_job_is_asked_to_stop(client):
    job = await submitted(client, "hold")
    answer = await client.call("POST", f"/v1/jobs/{job['id']}/cancel")
    assert answer.status == 202
    assert (answer.json["state"], answer.json["state_reason"]) == ("running", "cancel_requested")
    answer = await client.get(f"/v1/jobs/{job['id']}", Prefer="wait=10")
    assert answer.json["state"] == "cancelled"


async def test_an_ended_job_stays_as_it_is(client):
    job = await ended(client, "add", SUM)
    answer = await client.call("POST", f"/v1/jobs/{job['id']}/cancel")
    assert (answer.status, answer.json) == (200, job)


@pytest.mark.parametrize("text", [b"", b"{}", b"junk"])
async def test_a_cancel_needs_no_body(client, text):
    job = await submitted(client, "add", SUM, delay=3600)
    assert (await client.call("POST", f"/v1/jobs/{job['id']}/cancel", text=text)).status == 200


async def test_a_job_that_waits_for_its_worker_is_seen_by_a_waiting_look(client, connection):
    job = await submitted(client, "add", SUM, delay=3600)
    look = asyncio.create_task(client.get(f"/v1/jobs/{job['id']}", Prefer="wait=30"))
    await connection.execute("update quarterdeck.job set run_at = now() where id = $1", uuid.UUID(job["id"]))
    await eventually(look.done, within=10)
    assert (await look).json["result"] == 3
