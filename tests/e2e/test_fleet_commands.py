"""`qd queues` and `qd workers` against a real service."""

import asyncio
import json

import pytest

from tests.support.commands import qd, qd_inside
from tests.support.processes import cleaned_up, start_service
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def run(database, tmp_path_factory):
    settings = {"QUARTERDECK_DATABASE_URL": database}
    with cleaned_up(start_service(tmp_path_factory.mktemp("serve"), settings=settings)) as service:
        asyncio.run(service.wait_until_ready())
        yield lambda *arguments, by=qd_inside: by(*arguments, settings={"QUARTERDECK_URL": service.url})
        asyncio.run(service.stop())


def submit(run, queue):
    return run("submit", "quarterdeck.echo", "--queue", queue)


def test_a_paused_queue_holds_its_jobs_until_it_is_resumed(run):
    paused = run("queues", "pause", "images", by=qd)
    assert (paused.returncode, paused.stdout) == (0, "images is paused\n")
    job_id = submit(run, "images").stdout.strip()
    assert json.loads(run("jobs", "show", job_id, "--json").stdout)["state"] == "available"
    resumed = run("queues", "resume", "images", "--json")
    assert json.loads(resumed.stdout)["paused"] is False
    assert run("submit", "quarterdeck.echo", "--queue", "images", "--wait", "20").returncode == 0


def test_the_list_has_every_queue_with_its_depth(run):
    run("queues", "pause", "listed")
    submit(run, "listed")

    def is_counted():
        queues = json.loads(run("queues", "list", "--json").stdout)["items"]
        return ("listed", True, 1) in [(each["name"], each["paused"], each["depth"]["available"]) for each in queues]

    asyncio.run(eventually(is_counted))  # a count may be half a second old
    shown = run("queues", "list", by=qd)
    assert shown.returncode == 0
    (line,) = [line.split() for line in shown.stdout.splitlines() if line.split()[:1] == ["listed"]]
    assert line[1:4] == ["1", "0", "0"]
    assert line[-1] == "paused"


def test_settings_are_set_and_reset(run):
    done = run("queues", "set", "bounded", "max_depth=1", "paused=true", by=qd)
    assert (done.returncode, done.stdout) == (0, "bounded max_depth=1, is paused\n")
    assert submit(run, "bounded").returncode == 0
    refused = submit(run, "bounded")
    assert refused.returncode == 3
    assert "max_depth" in refused.stderr
    assert json.loads(run("queues", "set", "bounded", "max_depth=null", "--json").stdout)["max_depth"] is None
    assert submit(run, "bounded").returncode == 0


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (["rate=100/1m"], "/rate: not supported by this release"),
        (["rate=fast"], "/rate: expected text such as"),
        (["max_depth=many"], "/max_depth: expected int"),
        (["max_depth=NaN"], "/max_depth: expected int"),
        (["speed=5"], "/speed: unknown field"),
    ],
)
def test_what_the_service_refuses_is_told(run, pairs, words):
    done = run("queues", "set", "a", *pairs)
    assert (done.returncode, done.stdout) == (3, "")
    assert words in done.stderr


@pytest.mark.parametrize("pairs", [[], ["paused"], ["=1"], ["paused=true", "paused=false"]])
def test_wrong_usage_is_told_without_asking_the_service(pairs):
    done = qd_inside("queues", "set", "a", *pairs, settings={"QUARTERDECK_URL": "http://127.0.0.1:9"})
    assert (done.returncode, done.stdout) == (2, "")


def test_a_name_that_no_queue_can_have_is_refused(run):
    assert run("queues", "pause", "a b").returncode == 3


def test_workers_are_listed(run):
    (worker,) = json.loads(run("workers", "--json").stdout)["items"]
    assert (worker["role"], worker["draining"]) == ("all", False)
    shown = run("workers", by=qd)
    assert shown.returncode == 0
    (line,) = [line.split() for line in shown.stdout.splitlines() if " of " in line]
    assert line[:2] == [worker["id"], "all"]
