"""`qd migrate` on real databases."""

import asyncio
import itertools
import json
import re

import pytest

from tests.support.commands import qd, start_qd
from tests.support.processes import free_port

pytestmark = pytest.mark.timeout(120)

FUTURE = "insert into quarterdeck.migration (version, name, checksum, duration_ms) values (9999, 'future', 'x', 1)"
DRIFT = "update quarterdeck.migration set checksum = 'another' where version = 1"


def migrate(dsn, *arguments):
    return qd("migrate", *arguments, settings={"QUARTERDECK_DATABASE_URL": dsn})


def labels(migrations):
    return [f"{one['version']:04d}_{one['name']}" for one in migrations]


async def test_an_empty_database_is_behind_until_it_is_migrated(empty_database):
    behind = migrate(empty_database, "verify")
    assert (behind.returncode, behind.stdout) == (4, "")
    assert behind.stderr.startswith("qd: the database is behind: 0001_initial")
    before = json.loads(migrate(empty_database, "status", "--json").stdout)
    assert before["applied"] == []
    assert labels(before["pending"])[0] == "0001_initial"

    first = migrate(empty_database, "up")
    assert (first.returncode, first.stdout.splitlines()[0]) == (0, "applied 0001_initial")
    again = migrate(empty_database, "up")
    assert (again.returncode, again.stdout) == (0, "nothing to apply: the database is up to date\n")
    assert migrate(empty_database, "up", "--json").stdout == '{\n  "applied": []\n}\n'

    assert migrate(empty_database, "verify").returncode == 0
    after = json.loads(migrate(empty_database, "status", "--json").stdout)
    assert labels(after["applied"]) == labels(before["pending"])
    at = after["applied"][0]["applied_at"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", at)
    assert at in migrate(empty_database, "status").stdout
    assert after["pending"] == after["ahead"] == after["drifted"] == []


@pytest.mark.parametrize(
    ("statement", "words"),
    [(FUTURE, "the database is ahead: 9999_future"), (DRIFT, "the database has drifted: 0001_initial")],
)
@pytest.mark.parametrize("command", ["up", "verify"])
async def test_a_database_that_is_not_ours_to_migrate_is_exit_code_4(
    database_url, connection, command, statement, words
):
    await connection.execute(statement)
    done = migrate(database_url, command)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith(f"qd: {words}")
    assert done.stderr.count("\n") == 1


async def test_status_shows_what_is_wrong(database_url, connection):
    await connection.execute(FUTURE)
    await connection.execute(DRIFT)
    done = migrate(database_url, "status")
    assert done.returncode == 0
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert "unknown to this program" in rows["9999_future"]
    assert "applied with another content" in rows["0001_initial"]


async def test_several_may_migrate_at_the_same_time(empty_database):
    arguments = ("migrate", "up", "--json", "--database-url", empty_database)
    processes = [start_qd(*arguments) for _ in range(3)]
    outputs = [await asyncio.to_thread(process.communicate, timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    applied = [labels(json.loads(out)["applied"]) for out, _ in outputs]
    # Each is applied once, by whoever comes first; the next one by another, perhaps.
    status = json.loads(migrate(empty_database, "status", "--json").stdout)
    assert (sorted(itertools.chain(*applied)), status["pending"]) == (labels(status["applied"]), [])
    assert all(each == sorted(each) for each in applied)


def test_the_embedded_database_is_started_for_it_and_stopped(tmp_path):
    arguments = ("--data-dir", str(tmp_path / "data"))
    assert qd("migrate", "up", *arguments).returncode == 0
    assert qd("migrate", "verify", *arguments).returncode == 0
    assert not (tmp_path / "data" / "cluster" / "postmaster.pid").exists()


@pytest.mark.parametrize("command", ["up", "status", "verify"])
def test_a_database_that_cannot_be_reached_is_exit_code_3(command):
    done = qd("migrate", command, "--database-url", f"postgresql://me:secret@127.0.0.1:{free_port()}/x")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("qd: the database cannot be reached")
    assert "secret" not in done.stderr


async def test_a_database_that_does_not_exist_is_wrong_usage(database_url):
    done = migrate(database_url.replace("/qd_", "/no_qd_"), "status")
    assert done.returncode == 2
    assert done.stderr.startswith("qd: the database refuses")


def test_a_data_directory_that_cannot_be_used_is_wrong_usage(tmp_path):
    (tmp_path / "file").touch()
    done = qd("migrate", "up", "--data-dir", str(tmp_path / "file" / "data"))
    assert done.returncode == 2
    assert str(tmp_path / "file") in done.stderr
