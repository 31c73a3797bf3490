"""The client commands against a real service."""

import asyncio
import json
import signal
import uuid

import asyncpg
import pytest

from tests.e2e.rest import talking_to
from tests.support.commands import qd, qd_inside, start_qd
from tests.support.processes import cleaned_up, start_service
from tests.support.waiting import eventually

SECRET = "a-secret-of-some-length"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def service(database, tmp_path_factory):
    settings = {
        "QUARTERDECK_DATABASE_URL": database,
        "QUARTERDECK_API_KEYS": f"me:{SECRET}",
        "QUARTERDECK_SHUTDOWN_GRACE": "0",  # jobs of these tests go on for ever
    }
    directory = tmp_path_factory.mktemp("serve")
    with cleaned_up(start_service(directory, "tests.e2e.decks:deck", settings=settings)) as started:
        asyncio.run(started.wait_until_ready())
        yield started
        asyncio.run(started.stop())


def settings_for(service):
    return {"QUARTERDECK_URL": service.url, "QUARTERDECK_API_KEY": SECRET}


@pytest.fixture
def run(service):
    return lambda *arguments, **options: qd(*arguments, settings=settings_for(service), **options)


def test_submit_prints_the_id_that_show_knows(run):
    job_id = run(
        "submit", "quarterdeck.echo", "a=[1,2]", "--queue", "quiet", "--tag", "x", "--delay", "1h"
    ).stdout.strip()
    shown = json.loads(run("jobs", "show", job_id, "--json").stdout)
    assert (shown["id"], shown["args"], shown["queue"], shown["tags"]) == (job_id, {"a": [1, 2]}, "quiet", ["x"])
    for_people = run("jobs", "show", job_id)
    assert for_people.returncode == 0
    assert ["state", "scheduled"] in [line.split() for line in for_people.stdout.splitlines()]


def test_wait_prints_the_result(run):
    done = run("submit", "quarterdeck.echo", "--args", "-", "--wait", "text=é", stdin='{"n": 1}')
    assert (done.returncode, json.loads(done.stdout)) == (0, {"n": 1, "text": "é"})


def test_wait_with_json_prints_the_job(run):
    done = run("submit", "quarterdeck.echo", "--wait", "--json")
    assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "completed")


def test_a_job_that_fails_is_exit_code_1_and_says_why(run):
    done = run("submit", "fail", "--wait")
    assert (done.returncode, done.stdout) == (1, "")
    assert "was discarded: attempts_exhausted, ValueError: no \\x1b[2J" in done.stderr
    assert "\x1b" not in done.stderr


def test_a_job_that_takes_longer_than_the_wait_is_not_called_done(run):
    done = run("submit", "quarterdeck.sleep", "seconds=3600", "--wait", "1")
    assert done.returncode == 3
    assert "after 1 s: `qd jobs show" in done.stderr


def test_a_waiting_job_is_cancelled_at_once_and_stays_so(run):
    job_id = run("submit", "quarterdeck.echo", "--delay", "1h").stdout.strip()
    cancelled = run("jobs", "cancel", job_id)
    assert (cancelled.returncode, cancelled.stdout) == (0, f"{job_id} is cancelled\n")
    assert json.loads(run("jobs", "cancel", job_id, "--json").stdout)["state"] == "cancelled"


def test_a_submit_can_be_tried_and_is_not_repeated(run):
    tried = run("submit", "quarterdeck.echo", "n:=1", "--unique", "--queue", "once", "--delay", "1h", "--dry-run")
    assert tried.returncode == 0, tried.stderr
    first, second = (
        run("submit", "quarterdeck.echo", "n:=1", "--unique", "--queue", "once", "--delay", "1h") for _ in "12"
    )
    assert (first.returncode, first.stderr) == (0, ""), "the dry run stored nothing"
    assert (second.returncode, second.stdout) == (0, first.stdout)
    assert "has the same unique key" in second.stderr


def test_kinds_are_listed_with_their_arguments(run):
    shown = run("kinds")
    assert shown.returncode == 0
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert ["quarterdeck.sleep", "seconds", "1", "default"] in lines
    assert ["quarterdeck.echo", "…", "1", "default"] in lines


async def test_a_running_job_is_asked_to_stop(service, run):
    async with talking_to(service) as rest:
        rest.client.headers["Authorization"] = f"Bearer {SECRET}"
        job = await rest.submit("quarterdeck.sleep", args={"seconds": 3600})
        await rest.started(job["id"])
        cancelled = await asyncio.to_thread(run, "jobs", "cancel", job["id"])
        assert cancelled.returncode == 0
        assert (await rest.ended(job["id"]))["state"] == "cancelled"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["jobs", "show", "no-id"], "refused"),
        (["jobs", "show", str(uuid.UUID(int=0))], "refused"),
        (["jobs", "cancel", str(uuid.UUID(int=0))], "refused"),
        (["submit", "no_such_kind"], "no_such_kind"),
        (["submit", "quarterdeck.sleep", "seconds=soon"], "/args/seconds"),
        (["submit", "quarterdeck.echo", "--priority", "77"], "/priority"),
        (["submit", "quarterdeck.echo", "--delay", "soon"], "/delay"),
        (["submit", "quarterdeck.echo", "--api-key", "another-secret-than-theirs"], "--api-key"),
    ],
)
def test_what_the_service_refuses_is_exit_code_3_and_says_what(service, arguments, words):
    done = qd_inside(*arguments, settings=settings_for(service))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("qd: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


async def test_ctrl_c_ends_the_wait_and_not_the_job(database, service):
    arguments = ("submit", "quarterdeck.sleep", "seconds=3600", "--queue", "ctrl-c", "--wait")
    process = start_qd(*arguments, settings=settings_for(service))
    connection = await asyncpg.connect(database)
    find = "select state from quarterdeck.job where queue = 'ctrl-c'"
    try:
        await eventually(lambda: connection.fetchval(find), 30)
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.to_thread(process.communicate, timeout=20)
        # The answer to the submission may have come by then, or not yet.
        assert (process.returncode, err.count("\n")) == (130, 1), err
        assert err.startswith("qd: interrupted; ")
        await eventually(lambda: connection.fetchval(f"{find} and state = 'running'"), 30)
    finally:
        await connection.close()
