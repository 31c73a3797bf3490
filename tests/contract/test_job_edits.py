"""PATCH, retry, DELETE: what callers may do to a job beside cancelling it."""

import datetime as dt

import pytest

from tests.support.waiting import eventually

NO_JOB = "0193b5c0-0000-7000-8000-000000000000"
LATER = "2100-01-01T00:00:00.000Z"


async def scheduled(client, **options):
    answer = await client.submit("add", {"left": 1, "right": 1}, **{"delay": 3600, **options})
    assert answer.status == 202
    return answer.json


async def ended(client, kind="add", **options):
    args = {"left": 1, "right": 1} if kind == "add" else {}
    answer = await client.submit(kind, args, headers={"Prefer": "wait=10"}, **options)
    assert answer.status == 200
    return answer.json


async def running(client):
    job = (await client.submit("hold")).json

    async def runs():
        return (await client.get(f"/v1/jobs/{job['id']}")).json["state"] == "running"

    await eventually(runs)
    return job


async def patch(client, job_id, body, **headers):
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.call("PATCH", f"/v1/jobs/{job_id}", body=body, headers=given)


async def retry(client, job_id):
    return await client.call("POST", f"/v1/jobs/{job_id}/retry")


async def delete(client, job_id):
    return await client.call("DELETE", f"/v1/jobs/{job_id}")


# PATCH


async def test_given_fields_of_a_waiting_job_replace_what_was_there(client):
    job = await scheduled(client, tags=["old"], metadata={"a": 1, "b": 2})
    change = {
        "args": {"left": 5, "right": 6},
        "priority": 0,
        "run_at": LATER,
        "tags": ["new"],
        "metadata": {"c": {}},
        "queue": "other",
    }
    answer = await patch(client, job["id"], change)
    assert answer.status == 200
    assert answer.json == {**job, **change, "seq": 2}
    shown = await client.get(f"/v1/jobs/{job['id']}")
    assert shown.json == answer.json
    assert shown.headers["ETag"] == answer.headers["ETag"] == '"1-2"'


@pytest.mark.parametrize("change", [{}, {"priority": 5}, {"args": {"right": 1, "left": 1}, "queue": "default"}])
async def test_a_change_to_what_is_already_so_leaves_the_version(client, change):
    job = await scheduled(client)
    answer = await patch(client, job["id"], change)
    assert (answer.status, answer.json, answer.headers["ETag"]) == (200, job, '"1-1"')


async def test_a_scheduled_job_that_becomes_due_runs(client):
    job = await scheduled(client)
    answer = await patch(client, job["id"], {"run_at": "2026-01-01T00:00:00Z", "args": {"left": 20, "right": 22}})
    assert answer.json["state"] == "available"
    result = await client.get(f"/v1/jobs/{job['id']}/result", Prefer="wait=10")
    assert (result.status, result.json) == (200, 42)


async def test_a_job_that_becomes_due_soon_runs_then(client, runtime):
    job = await scheduled(client)
    soon = runtime.engine.clock.now() + dt.timedelta(seconds=1.5)
    assert (await patch(client, job["id"], {"run_at": soon})).json["state"] == "scheduled"
    result = await client.get(f"/v1/jobs/{job['id']}/result", Prefer="wait=10")
    assert result.status == 200


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        ({"kind": "hold"}, ["/kind"]),
        ({"delay": 5}, ["/delay"]),
        ({"priority": 10}, ["/priority"]),
        ({"priority": None}, ["/priority"]),
        ({"priority": "5"}, ["/priority"]),
        ({"run_at": "soon"}, ["/run_at"]),
        ({"run_at": "2026-01-01T00:00:00"}, ["/run_at"]),
        ({"run_at": None}, ["/run_at"]),
        ({"tags": ["", "t"]}, ["/tags/0"]),
        ({"tags": "t"}, ["/tags"]),
        ({"metadata": {"a": "x" * 17_000}}, ["/metadata"]),
        ({"queue": "no name"}, ["/queue"]),
        ({"queue": "no name", "priority": -1}, ["/priority", "/queue"]),
        ({"args": []}, ["/args"]),
        ({"args": {"left": 1}}, ["/args/right"]),
        ({"args": {"left": 1, "right": "2"}}, ["/args/right"]),
        ({"args": {"left": 1, "right": 2, "more": 3}}, ["/args/more"]),
        ([], [""]),
    ],
)
async def test_a_change_that_breaks_a_rule_is_a_422_that_points_at_it(client, change, pointers):
    job = await scheduled(client)
    answer = await patch(client, job["id"], change)
    answer.problem(422, "invalid")
    assert answer.pointers == pointers
    assert (await client.get(f"/v1/jobs/{job['id']}")).json == job


async def test_a_body_that_is_no_json_is_refused(client):
    job = await scheduled(client)
    path = f"/v1/jobs/{job['id']}"
    (await client.call("PATCH", path, text=b"{")).problem(400, "malformed-json")
    (await client.call("PATCH", path)).problem(415, "unsupported-media-type")
    merge = {"Content-Type": "application/merge-patch+json"}
    (await client.call("PATCH", path, text=b"{}", headers=merge)).problem(415, "unsupported-media-type")
    (await client.call("PATCH", path, text=b" " * 1024 * 1025)).problem(413, "body-too-large")


async def test_a_job_that_runs_or_has_ended_cannot_be_changed(client, gate):
    job = await running(client)
    problem = (await patch(client, job["id"], {"priority": 0})).problem(409, "job-running")
    assert problem["state"] == "running"
    gate.set()
    done = await ended(client)
    problem = (await patch(client, done["id"], {"priority": 0})).problem(409, "job-ended")
    assert problem["state"] == "completed"
    (await patch(client, done["id"], {"args": {"left": 1, "right": 1}}, If_Match='"1-1"')).problem(409, "job-ended")


async def test_the_queue_of_a_job_that_has_started_is_fixed(client, connection):
    job = await scheduled(client)
    await connection.execute("update quarterdeck.job set attempt = 1, attempted_at = now(), state = 'retryable'")
    (await patch(client, job["id"], {"queue": "other", "priority": 0})).problem(409, "job-started")
    assert (await patch(client, job["id"], {"queue": "default", "priority": 0})).status == 200


async def test_a_queue_where_the_unique_key_is_taken_is_a_409(client):
    job = await scheduled(client, unique={"key": "k"})
    await scheduled(client, unique={"key": "k"}, queue="other")
    (await patch(client, job["id"], {"queue": "other"})).problem(409, "unique-key-taken")
    assert (await patch(client, job["id"], {"queue": "third"})).json["queue"] == "third"


@pytest.mark.parametrize("condition", ["*", '"1-1"', '"9-9", "1-1"', '"9-9","1-1",', ', "1-1"', '"1-1" , W/"1-1"'])
async def test_a_condition_that_holds_lets_the_change_through(client, condition):
    job = await scheduled(client)
    assert (await patch(client, job["id"], {"priority": 0}, If_Match=condition)).json["priority"] == 0


@pytest.mark.parametrize("condition", ['"1-2"', 'W/"1-1"', '"2-1"', '"*"', '""', '"1,1", "x"'])
async def test_a_condition_that_does_not_hold_is_a_412(client, condition):
    job = await scheduled(client)
    (await patch(client, job["id"], {"priority": 0}, If_Match=condition)).problem(412, "precondition-failed")
    assert (await client.get(f"/v1/jobs/{job['id']}")).json == job


@pytest.mark.parametrize(
    "condition", ["1-1", '"1-1 "', '"1-1', "W/1-1", '"1-1" "1-2"', '*, "1-1"', '"1-1";', "", "," * 5000]
)
async def test_a_condition_that_is_none_is_a_400(client, condition):
    job = await scheduled(client)
    (await patch(client, job["id"], {"priority": 0}, If_Match=condition)).problem(400, "bad-request")


async def test_two_writers_who_read_the_same_version_do_not_overwrite_each_other(client):
    job = await scheduled(client)
    tag = (await client.get(f"/v1/jobs/{job['id']}")).headers["ETag"]
    first = await patch(client, job["id"], {"priority": 1}, If_Match=tag)
    (await patch(client, job["id"], {"priority": 2}, If_Match=tag)).problem(412, "precondition-failed")
    assert (await patch(client, job["id"], {"priority": 2}, If_Match=first.headers["ETag"])).status == 200


# Retry


@pytest.mark.parametrize("kind", ["add", "fail", "give_up"])
async def test_an_ended_job_runs_again_as_a_new_generation(client, kind):
    job = await ended(client, kind)
    answer = await retry(client, job["id"])
    again = answer.json
    assert answer.status == 200
    assert answer.headers["ETag"] == f'"2-{job["seq"] + 1}"'
    assert (again["id"], again["state"], again["generation"], again["attempt"]) == (job["id"], "available", 2, 0)
    assert (again["result"], again["finalized_at"], again["attempted_at"], again["errors"]) == (
        None,
        None,
        None,
        job["errors"],
    )
    done = (await client.get(f"/v1/jobs/{job['id']}", Prefer="wait=10")).json
    assert (done["state"], done["result"], done["generation"]) == (job["state"], job["result"], 2)
    assert done["seq"] == job["seq"] + 3
    assert len(done["errors"]) == 2 * len(job["errors"])


async def test_a_scheduled_job_runs_now(client):
    job = await scheduled(client)
    again = (await retry(client, job["id"])).json
    assert (again["state"], again["generation"], again["seq"]) == ("available", 1, 2)
    assert (await client.get(f"/v1/jobs/{job['id']}/result", Prefer="wait=10")).json == 2


async def test_a_job_that_waits_or_runs_is_a_409(client, gate, connection):
    job = await running(client)
    assert (await retry(client, job["id"])).problem(409, "job-running")["state"] == "running"
    gate.set()
    for state in ("available", "pending"):
        waiting = await scheduled(client, queue="q")
        await connection.execute(
            "update quarterdeck.job set state = $2, run_at = 'infinity' where id = $1", waiting["id"], state
        )
        assert (await retry(client, waiting["id"])).problem(409, "job-waiting")["state"] == state


async def test_a_unique_key_that_another_job_has_is_a_409(client):
    job = await scheduled(client, unique={"key": "k"})
    await client.call("POST", f"/v1/jobs/{job['id']}/cancel")
    other = await scheduled(client, unique={"key": "k"})
    assert other["id"] != job["id"]
    before = (await client.get(f"/v1/jobs/{job['id']}")).json
    (await retry(client, job["id"])).problem(409, "unique-key-taken")
    assert (await client.get(f"/v1/jobs/{job['id']}")).json == before
    await client.call("POST", f"/v1/jobs/{other['id']}/cancel")
    assert (await retry(client, job["id"])).status == 200


# DELETE


async def test_an_ended_job_is_forgotten(client):
    job = await ended(client)
    answer = await delete(client, job["id"])
    assert (answer.status, answer.body) == (204, b"")
    assert "Content-Type" not in answer.headers
    (await client.get(f"/v1/jobs/{job['id']}")).problem(404, "not-found")
    (await delete(client, job["id"])).problem(404, "not-found")


async def test_a_job_that_has_not_ended_is_a_409(client, gate):
    waiting, runs = await scheduled(client), await running(client)
    assert (await delete(client, waiting["id"])).problem(409, "job-waiting")["state"] == "scheduled"
    assert (await delete(client, runs["id"])).problem(409, "job-running")["state"] == "running"
    gate.set()


@pytest.mark.parametrize("job_id", [NO_JOB, "no-id"])
async def test_a_job_that_is_not_there_is_a_404(client, job_id):
    (await patch(client, job_id, {"args": {}})).problem(404, "not-found")
    (await patch(client, job_id, {"priority": 1}, If_Match="*")).problem(404, "not-found")
    (await retry(client, job_id)).problem(404, "not-found")
    (await delete(client, job_id)).problem(404, "not-found")


async def test_another_tenants_jobs_are_not_there(client, connection):
    job = await scheduled(client)
    await connection.execute("update quarterdeck.job set tenant = 'acme'")
    (await patch(client, job["id"], {"priority": 1})).problem(404, "not-found")
    (await retry(client, job["id"])).problem(404, "not-found")
