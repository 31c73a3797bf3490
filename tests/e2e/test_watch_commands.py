"""`qd jobs watch` and `qd submit --watch` against real services."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
import uuid
from contextlib import suppress

import pytest

from tests.support.commands import qd, qd_inside, start_qd
from tests.support.processes import REPOSITORY, cleaned_up, service_environment, start_service
from tests.support.relay import relaying
from tests.support.waiting import eventually

SECRET = "a-secret-of-some-length"
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (\w+)( .*)?")

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(scope="module")
def service(database, tmp_path_factory):
    settings = {
        "QUARTERDECK_DATABASE_URL": database,
        "QUARTERDECK_API_KEYS": f"me:{SECRET}",
        "QUARTERDECK_SHUTDOWN_GRACE": "0",
    }
    directory = tmp_path_factory.mktemp("serve")
    with cleaned_up(start_service(directory, "tests.live.decks:deck", settings=settings)) as service:
        asyncio.run(service.wait_until_ready())
        yield service


def settings_for(service):
    return {"QUARTERDECK_URL": service.url, "QUARTERDECK_API_KEY": SECRET}


@pytest.fixture
def run(service):
    return lambda *arguments, **options: qd(*arguments, settings=settings_for(service), **options)


def lines_of(text):
    found = [LINE.fullmatch(line) for line in text.splitlines()]
    assert all(found), text
    return [(match[1], (match[2] or "").strip()) for match in found]


def test_a_submit_is_watched_to_its_end(run, tmp_path):
    path = tmp_path / "done"
    path.touch()
    done = run("submit", "tell", f"path={path}", "--watch")
    assert (done.returncode, done.stderr) == (0, "")
    job_id, _, rest = done.stdout.partition("\n")
    assert lines_of(rest) == [("submitted", ""), ("started", ""), ("completed", "told")]
    assert run("jobs", "watch", job_id).stdout == rest
    as_json = [json.loads(line) for line in run("jobs", "watch", job_id, "--json").stdout.splitlines()]
    assert [(event["type"], event["event"], event["job_id"], event["seq"]) for event in as_json] == [
        ("event", f"job.{name}", job_id, seq) for seq, name in enumerate(["submitted", "started", "completed"], 1)
    ]
    assert as_json[-1]["data"] == {"state": "completed", "result": "told"}
    assert [event["at"] for event in as_json] == [line.split()[0] for line in rest.splitlines()]


def test_what_does_not_complete_is_exit_code_1_and_says_why(run):
    failed = run("submit", "fail", "--watch")
    assert failed.returncode == 1
    assert re.fullmatch(r"qd: job \S+ was discarded: attempts_exhausted, ValueError: no \\x1b\[2J\n", failed.stderr)
    assert "\x1b" not in failed.stdout
    given_up = run("submit", "give_up", "--watch", "--json")
    assert given_up.returncode == 1
    assert re.fullmatch(r"qd: job \S+ was cancelled: no use\n", given_up.stderr)
    events = [json.loads(line) for line in given_up.stdout.splitlines()]
    assert [event["event"] for event in events][-2:] == ["job.output", "job.cancelled"]
    assert events[-2]["data"] == {"output": {"n": 1}}
    shown = run("jobs", "show", events[-1]["job_id"])
    assert (shown.returncode, shown.stderr) == (0, "")
    assert re.search(r'\noutput\n  \S+Z {"n": 1}\n', shown.stdout)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["jobs", "watch", str(uuid.UUID(int=0))], 3, "there is no job"),
        (["jobs", "watch", "no-id"], 3, "there is no job no-id"),
        (["jobs", "watch", str(uuid.UUID(int=0)), "--api-key", "another-secret-than-theirs"], 3, "--api-key"),
        (["jobs", "watch", str(uuid.UUID(int=0)), "--url", "http://127.0.0.1:1"], 3, "start a service"),
        (["jobs", "watch", str(uuid.UUID(int=0)), "--url", "elsewhere"], 2, "is no URL"),
        (["submit", "no_such_kind", "--watch"], 3, "no_such_kind"),
        (["submit", "fail", "--watch", "--wait"], 2, "either --wait or --watch"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else "",
)
def test_what_cannot_be_watched_says_why_in_one_line(service, arguments, code, words):
    done = qd_inside(*arguments, settings=settings_for(service))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), done.stderr
    assert words in done.stderr


async def read_until(process, wanted):
    lines = []
    while not lines or wanted not in lines[-1]:
        lines.append(await asyncio.to_thread(process.stdout.readline))
        assert lines[-1], process.stderr.read()
    return lines


async def test_ctrl_c_ends_the_watch_and_not_the_job(service, run, tmp_path):
    process = start_qd("submit", "tell", f"path={tmp_path / 'done'}", "--watch", settings=settings_for(service))
    job_id = (await read_until(process, "progress"))[0].strip()
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.to_thread(process.communicate, timeout=20)
    assert (process.returncode, err) == (130, f"qd: interrupted; job {job_id} goes on\n")
    assert json.loads(run("jobs", "show", job_id, "--json").stdout)["state"] == "running"
    (tmp_path / "done").touch()


async def test_who_has_seen_enough_ends_the_watch(service, tmp_path):
    process = start_qd("submit", "tell", f"path={tmp_path / 'done'}", "--watch", settings=settings_for(service))
    await read_until(process, "log")
    process.stdout.close()
    await eventually(lambda: process.poll() is not None, 20)
    assert (process.returncode, process.stderr.read()) == (0, "")
    process.stderr.close()
    (tmp_path / "done").touch()


async def test_a_service_that_goes_away_and_comes_back_is_not_seen(service, tmp_path):
    async with relaying(service.url) as relay:
        settings = {**settings_for(service), "QUARTERDECK_URL": relay.url}
        process = start_qd("submit", "tell", f"path={tmp_path / 'done'}", "--watch", "--json", settings=settings)
        lines = await read_until(process, "job.progress")
        relay.upstreams.clear()
        relay.cut()
        refused = relay.refused
        await eventually(lambda: relay.refused > refused + 1)
        relay.upstreams.append(service.url)
        lines += await read_until(process, f"step {len(lines) + 10}")
        (tmp_path / "done").touch()
        lines += await asyncio.to_thread(process.stdout.readlines)
        process.stdout.close()
    assert (process.wait(30), process.stderr.read()) == (0, "")
    process.stderr.close()
    events = [json.loads(line) for line in lines]
    expected = 1
    for event in events:
        assert event.get("merged_from", event["seq"]) == expected
        expected = event["seq"] + 1
    assert events[-1]["event"] == "job.completed"


async def test_on_a_terminal_there_is_a_bar(service, tmp_path):
    parent, child = pty.openpty()
    with subprocess.Popen(  # noqa: ASYNC220 (it only starts)
        [sys.executable, "-m", "quarterdeck", "submit", "tell", f"path={tmp_path / 'done'}", "--watch"],
        cwd=REPOSITORY,
        env={**service_environment(settings_for(service)), "TERM": "xterm", "COLUMNS": "160"},
        stdin=subprocess.DEVNULL,
        stdout=child,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(child)
        seen = b""

        async def until(words):
            nonlocal seen
            while words not in seen:
                seen += await asyncio.to_thread(os.read, parent, 4096)

        async with asyncio.timeout(20):
            await until(b"5 steps")
            (tmp_path / "done").touch()
            await until(b"completed told")
            with suppress(OSError):  # its end
                while more := await asyncio.to_thread(os.read, parent, 4096):
                    seen += more
        assert (process.wait(20), process.stderr.read()) == (0, b"")
    os.close(parent)
    assert "━" in seen.decode()
    assert b"running" in seen
