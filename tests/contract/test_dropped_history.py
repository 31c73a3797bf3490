"""410: ids of jobs whose history was dropped, and nobody else's; installed ten days ago, kept since yesterday."""

import datetime as dt
import uuid

import asyncpg
import pytest

from tests.support.factories import new_id

ROUTES = [
    ("GET", ""),
    ("PATCH", ""),
    ("DELETE", ""),
    ("GET", "/result"),
    ("GET", "/logs"),
    ("GET", "/outputs"),
    ("POST", "/cancel"),
    ("POST", "/retry"),
]


@pytest.fixture(autouse=True)
async def installed(client, database_url):
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("update quarterdeck.migration set applied_at = now() - interval '10 days'")
    finally:
        await connection.close()


def id_of(days_ago: float) -> uuid.UUID:
    return new_id(dt.datetime.now(dt.UTC) - dt.timedelta(days=days_ago))


async def test_every_route_of_a_job_says_that_its_history_was_dropped(client):
    old = id_of(5)
    for method, path in ROUTES:
        body = {"priority": 1} if method == "PATCH" else None
        problem = (await client.call(method, f"/v1/jobs/{old}{path}", body=body)).problem(410, "job-gone")
        assert str(old) in problem["detail"]


@pytest.mark.parametrize(
    "job_id",
    [id_of(20), id_of(0.5), id_of(-1), uuid.UUID(int=id_of(5).int, version=4), uuid.UUID(int=0)],
    ids=["before", "today", "to come", "no time", "nil"],
)
async def test_an_id_from_before_or_since_or_without_a_time_was_never_there(client, job_id):
    (await client.get(f"/v1/jobs/{job_id}")).problem(404, "not-found")


async def test_a_job_of_a_kept_day_that_was_deleted_is_not_there(client):
    job = (await client.submit("add", {"left": 1, "right": 2}, headers={"Prefer": "wait=10"})).json
    assert (await client.call("DELETE", f"/v1/jobs/{job['id']}")).status == 204
    (await client.get(f"/v1/jobs/{job['id']}")).problem(404, "not-found")
