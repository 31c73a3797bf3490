"""`qd jobs list` and `qd jobs retry` against a real service."""

import json

import pytest

from tests.support.commands import qd, qd_inside
from tests.support.processes import running_service

pytestmark = pytest.mark.timeout(120)


async def test_jobs_are_listed_and_run_again(database_url, tmp_path):
    settings = {"QUARTERDECK_DATABASE_URL": database_url, "QUARTERDECK_SHUTDOWN_GRACE": "0"}
    async with running_service(tmp_path, settings=settings) as service:

        def run(*arguments, by=qd_inside):
            return by(*arguments, settings={"QUARTERDECK_URL": service.url})

        first = run("submit", "quarterdeck.echo", "n=1", "--wait", "--json", "--tag", "x")
        job_id = json.loads(first.stdout)["id"]
        run("submit", "quarterdeck.echo", "n=2", "--delay", "1h")
        found = json.loads(run("jobs", "list", "--state", "completed", "--tag", "x", "--all", "--json").stdout)
        assert ([job["id"] for job in found["items"]], found["next"]) == ([job_id], None)
        table = run("jobs", "list", "--kind", "quarterdeck.echo", "--args", '{"n": 2}', by=qd)
        assert table.returncode == 0
        assert "scheduled" in table.stdout
        assert job_id not in table.stdout

        again = run("jobs", "retry", job_id)
        assert (again.returncode, again.stdout) == (0, f"{job_id} is available, generation 2\n")
        refused = run("jobs", "list", "--args", "{}")
        assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)
