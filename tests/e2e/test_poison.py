"""A job that kills every process it runs in takes nobody along: it is discarded at its third crash, all others end."""

import asyncio
import signal

import pytest

from tests.e2e.rest import talking_to
from tests.support.processes import cleaned_up, running_service, start_service

APP = "tests.e2e.decks:deck"
OTHERS = 120

pytestmark = pytest.mark.timeout(120)


async def test_a_job_that_kills_its_process_ends_after_three_crashes_and_nobody_else_is_charged(tmp_path, database_url):
    settings = {"QUARTERDECK_DATABASE_URL": database_url, "QUARTERDECK_LEASE": "2", "QUARTERDECK_CONCURRENCY": "10"}
    async with running_service(tmp_path, APP, "--role", "web", settings=settings) as web, talking_to(web) as rest:
        poison = await rest.submit("kill_process")
        others = await asyncio.gather(*(rest.submit("pause", args={"seconds": 0.2}) for _ in range(OTHERS)))

        for _ in range(3):
            with cleaned_up(start_service(tmp_path, APP, "--role", "worker", settings=settings)) as worker:
                assert await worker.wait(40) == -signal.SIGKILL
        ended = await rest.ended(poison["id"])
        assert (ended["state_reason"], ended["crashes"], ended["attempt"]) == ("crashed", 3, 0)
        async with running_service(tmp_path, APP, "--role", "worker", settings=settings):
            finished = [await rest.ended(job["id"], 40) for job in others]
    assert {(job["state"], job["attempt"]) for job in finished} == {("completed", 1)}
    assert max(job["crashes"] for job in finished) <= 2
