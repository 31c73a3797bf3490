"""Several `qd serve` on one PostgreSQL: they share the work, and take over from one that is killed."""

import asyncio

import pytest

from tests.e2e.rest import talking_to
from tests.support.processes import cleaned_up, running_service, start_service

APP = "tests.e2e.decks:deck"

pytestmark = pytest.mark.timeout(120)


async def test_two_processes_on_one_database_both_run_jobs(tmp_path, database_url):
    settings = {"QUARTERDECK_DATABASE_URL": database_url, "QUARTERDECK_CONCURRENCY": "1"}
    async with (
        running_service(tmp_path, APP, settings=settings) as first,
        running_service(tmp_path, APP, settings=settings) as second,
        talking_to(first) as rest,
        talking_to(second) as other,
    ):
        jobs = await asyncio.gather(*(rest.submit("turn") for _ in range(60)))
        ended = [await other.ended(job["id"], 30) for job in jobs]
    assert {job["state"] for job in ended} == {"completed"}
    assert {job["attempt"] for job in ended} == {1}
    assert {job["result"] for job in ended} == {first.pid, second.pid}


async def test_a_web_process_takes_jobs_that_a_worker_process_runs(tmp_path, database_url):
    settings = {"QUARTERDECK_DATABASE_URL": database_url}
    async with (
        running_service(tmp_path, APP, "--role", "web", settings=settings) as web,
        running_service(tmp_path, APP, "--role", "worker", settings=settings) as worker,
        talking_to(web) as rest,
    ):
        assert (await rest.submit("turn", wait=20))["result"] == worker.pid


async def test_a_second_process_on_the_same_data_directory_joins(tmp_path):
    async with running_service(tmp_path, APP, "--role", "web") as owner:
        async with running_service(tmp_path, APP, "--role", "worker") as joined, talking_to(owner) as rest:
            assert (await rest.submit("turn", wait=20))["result"] == joined.pid
        async with talking_to(owner) as rest:
            assert (await rest.submit("turn", delay="1h"))["state"] == "scheduled", "the database stays with its owner"


async def test_the_job_of_a_killed_process_is_run_by_another(tmp_path, database_url):
    settings = {"QUARTERDECK_DATABASE_URL": database_url, "QUARTERDECK_LEASE": "3"}
    gate = tmp_path / "gate"
    with cleaned_up(start_service(tmp_path, APP, settings=settings)) as doomed:
        await doomed.wait_until_ready()
        async with talking_to(doomed) as rest:
            job = await rest.submit("gate", args={"path": str(gate)})
            running = await rest.started(job["id"])
        async with running_service(tmp_path, APP, settings=settings) as other, talking_to(other) as rest:
            doomed.kill()
            gate.touch()
            ended = await rest.ended(job["id"], 30)
            assert (ended["state"], ended["result"]) == ("completed", other.pid)
            assert (ended["crashes"], ended["attempt"]) == (1, 1)
            assert ended["worker"] != running["worker"]
