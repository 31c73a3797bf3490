"""`GET /v1/jobs`, and what a job wrote."""

import datetime as dt
import json
from urllib.parse import quote

import asyncpg
import pytest

from quarterdeck.domain.listing import Bookmarks, JobFilter

NO_JOB = "0193b5c0-0000-7000-8000-000000000000"


async def listed(client, query=""):
    answer = await client.get(f"/v1/jobs{query}")
    assert answer.status == 200, answer.body
    assert set(answer.json) == {"items", "next"}
    return answer.json["items"]


@pytest.fixture
async def jobs(client):
    """Three ended jobs and three that wait, in the order of their ids."""
    made = []
    for number in range(6):
        options = {"delay": 3600} if number % 2 else {"headers": {"Prefer": "wait=10"}}
        answer = await client.submit(
            "add", {"left": number, "right": 1}, queue=f"q{number % 3}", tags=["all", f"t{number}"], **options
        )
        assert answer.status == (202 if number % 2 else 200)
        made.append(answer.json)
    return made


async def test_jobs_are_listed_newest_first_as_each_is_shown_by_itself(client, jobs):
    found = await listed(client)
    assert [job["id"] for job in found] == [job["id"] for job in reversed(jobs)]
    for job in found:
        assert job == (await client.get(f"/v1/jobs/{job['id']}")).json


async def test_pages_are_followed_by_their_cursors(client, jobs):
    found, query = [], "?limit=4"
    while query:
        page = (await client.get(f"/v1/jobs{query}")).json
        found.append(len(page["items"]))
        query = page["next"] and f"?limit=4&cursor={page['next']}"
    assert found == [4, 2]


async def test_every_filter_narrows_the_list(client, jobs, subtests):
    between = jobs[3]["created_at"]
    for query, numbers in {
        "state=completed": [4, 2, 0],
        "state=completed&state=scheduled": [5, 4, 3, 2, 1, 0],
        "state=running": [],
        "kind=add": [5, 4, 3, 2, 1, 0],
        "kind=hold": [],
        "queue=q1": [4, 1],
        "tag=t2": [2],
        "tag=t2&tag=all": [2],
        "tag=t2&tag=t3": [],
        f"workflow_id={NO_JOB}": [],
        f"created_after={between}": [5, 4, 3],
        f"created_before={between}": [2, 1, 0],
        f"created_after={quote('2026-01-01T00:00:00+09:00')}": [5, 4, 3, 2, 1, 0],
        "kind=add&args=" + quote('{"left": 3}'): [3],
        "queue=q0&args=" + quote('{"left": 3, "right": 2}'): [],
        "state=completed&kind=add&queue=q1&tag=all&limit=200&args={}": [4],
    }.items():
        with subtests.test(query):
            assert [job["args"]["left"] for job in await listed(client, f"?{query}")] == numbers


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=many",
        "limit=1.5",
        "limit=",
        "limit=5&limit=6",
        "state=done",
        "state=",
        "kind=",
        "kind=a%20b",
        "kind=a&kind=b",
        "queue=%00",
        "tag=",
        "tag=" + "t" * 129,
        "tag=%00",
        "workflow_id=7",
        "created_after=yesterday",
        "created_after=1700000000",
        "created_after=2026-01-01T00:00:00",
        "created_before=9999-01-01T00:00:00Z",
        "args={}",
        "kind=add&args=",
        "kind=add&args=[]",
        "kind=add&args={'a':1}",
        'kind=add&args={"a":1,"a":2}',
        'kind=add&args={"a":NaN}',
        'kind=add&args={"a":"\\u0000"}',
        'kind=add&args={"a":99999999999999999999999}',
        "kind=add&args=" + "[" * 1000,
        "cursor=",
        "cursor=abc",
        "cursor=" + "A" * 32,
        "cursor=" + Bookmarks("jobs", "default", JobFilter(kind="add")).cursor(7),
        "unknown=1",
        "State=completed",
    ],
)
async def test_what_makes_no_sense_is_a_400(client, query):
    problem = (await client.get("/v1/jobs?" + quote(query, safe="=&%"))).problem(400, "bad-query")
    assert query.partition("=")[0] in problem["detail"] or "args" in problem["detail"]


async def test_a_cursor_holds_for_its_own_filter_only(client, jobs):
    cursor = (await client.get("/v1/jobs?limit=1&tag=all&kind=add")).json["next"]
    for fits in ("limit=2&tag=all&kind=add", "kind=add&tag=all&tag=all"):
        assert (await client.get(f"/v1/jobs?{fits}&cursor={cursor}")).status == 200
    for other in ("tag=all", "kind=add", "kind=add&tag=all&state=completed", "kind=add&tag=all&args={}"):
        (await client.get(f"/v1/jobs?{other}&cursor={cursor}")).problem(400, "bad-query")
    (await client.get(f"/v1/jobs/{jobs[0]['id']}/logs?cursor={cursor}")).problem(400, "bad-query")
    changed = ("B" if cursor[0] == "A" else "A") + cursor[1:]
    (await client.get(f"/v1/jobs?tag=all&kind=add&cursor={changed}")).problem(400, "bad-query")


async def test_another_tenants_jobs_are_not_listed(client, jobs, connection):
    await connection.execute("update quarterdeck.job set tenant = 'acme'")
    assert [job["args"]["left"] for job in await listed(client)] == [4, 2, 0]


# Logs and outputs


@pytest.fixture
async def events(client, connection: asyncpg.Connection):
    """A job with log lines and outputs."""
    job = (await client.submit("add", {"left": 1, "right": 1}, headers={"Prefer": "wait=10"})).json
    await connection.executemany(
        """
        insert into quarterdeck.job_event (job_id, queue, seq, generation, attempt, event, at, data)
        values ($1, 'default', $2, 1, 2, $3, $4, $5)
        """,
        [
            (job["id"], seq, event, dt.datetime(2026, 1, 31, 12, 0, seq, tzinfo=dt.UTC), data)
            for seq, event, data in (
                (2, "log", '{"level": "info", "message": "one"}'),
                (3, "output", '{"n": [1, 2.50]}'),
                (4, "progress", '{"fraction": 0.5}'),
                (5, "log", '{"level": "warning", "message": "a \\u0000 and \\ud800"}'),
                (6, "output", "null"),
                (7, "log", '{"level": "info", "message": "three"}'),
            )
        ],
    )
    return job["id"]


async def test_log_lines_come_newest_first(client, events):
    answer = await client.get(f"/v1/jobs/{events}/logs?limit=2")
    page = json.loads(answer.body)
    newest, older = page["items"]
    assert newest == {
        "seq": 7,
        "at": "2026-01-31T12:00:07.000Z",
        "attempt": 2,
        "generation": 1,
        "level": "info",
        "message": "three",
    }
    assert (older["level"], older["message"]) == ("warning", "a \0 and \ud800")
    cursor = page["next"]
    rest = (await client.get(f"/v1/jobs/{events}/logs?cursor={cursor}")).json
    assert ([line["seq"] for line in rest["items"]], rest["next"]) == ([2], None)


async def test_outputs_come_newest_first_as_they_were_put_out(client, events):
    answer = await client.get(f"/v1/jobs/{events}/outputs")
    assert [(output["seq"], output["data"]) for output in answer.json["items"]] == [(6, None), (3, {"n": [1, 2.5]})]
    assert b'{"n": [1, 2.50]}' in answer.body
    assert set(answer.json["items"][0]) == {"seq", "at", "attempt", "generation", "data"}
    assert answer.json["next"] is None


@pytest.mark.parametrize("what", ["logs", "outputs"])
async def test_a_job_that_wrote_nothing_has_an_empty_list_and_one_that_is_not_there_is_a_404(client, what):
    job = (await client.submit("add", {"left": 1, "right": 1}, delay=3600)).json
    assert (await client.get(f"/v1/jobs/{job['id']}/{what}")).json == {"items": [], "next": None}
    (await client.get(f"/v1/jobs/{NO_JOB}/{what}")).problem(404, "not-found")
    (await client.get(f"/v1/jobs/no-id/{what}")).problem(404, "not-found")
    for query in ("limit=0", "limit=201", "cursor=abc", "state=completed"):
        (await client.get(f"/v1/jobs/{job['id']}/{what}?{query}")).problem(400, "bad-query")
