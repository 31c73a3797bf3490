"""`qd demo` does real work and says so truly."""

import asyncio
import hashlib
import json
import os
import re
import signal
from functools import partial

import asyncpg
import httpx
import pytest

from quarterdeck.cli.demo_web import BUSY, PAGES
from quarterdeck.cli.demo_work import FETCH, KINDS
from quarterdeck.store.embedded import EmbeddedPostgres
from quarterdeck.store.migrator import Migrator
from tests.support.commands import postmaster_of, process_exists, qd, start_qd
from tests.support.processes import REPOSITORY
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(180)


async def test_the_demo_counts_and_checks_the_files_of_this_repository(tmp_path):
    done = qd("demo", "--json", cwd=tmp_path, settings={"QUARTERDECK_AUTH": "required"}, within=120)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    files = {file["path"]: file for file in report["files"]}
    assert report["jobs"] == len(files) * len(KINDS) + PAGES
    assert report["checks"] == {"compared": len(files), "different": []}
    assert set(report["kinds"]) == {*KINDS, FETCH}
    assert report["pages"] == {"fetched": PAGES, "requests": PAGES + BUSY, "wrong": []}
    content = (REPOSITORY / "LICENSE").read_bytes()
    assert files["LICENSE"] == {
        "path": "LICENSE",
        "lines": content.count(b"\n"),
        "words": len(content.split()),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    data = tmp_path / ".quarterdeck" / "demo"
    assert (data / "cluster").is_dir(), "the next run is faster"
    assert not (data / "cluster" / "postmaster.pid").exists(), "nothing goes on running"

    kept = qd("demo", "--keep", cwd=tmp_path, within=120)
    assert kept.returncode == 0, kept.stderr
    largest = max(report["files"], key=lambda file: file["bytes"])
    pages = f"{PAGES} of {PAGES} pages came over HTTP as they are; {BUSY} calls were answered 503 and made again."
    checked = "checksums are the same when computed directly"
    for words in (largest["sha256"][:16], *KINDS, FETCH, checked, pages, "stop it: kill "):
        assert words in kept.stdout
    url, pid = re.search(r"goes on at (\S+) .* kill (\d+)", kept.stdout).groups()
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{url}/readyz")).status_code == httpx.codes.OK
    finally:
        os.kill(int(pid), signal.SIGTERM)
    await eventually(lambda: not process_exists(int(pid)), 30)


def test_a_demo_whose_service_cannot_start_says_why(tmp_path):
    data = tmp_path / ".quarterdeck" / "demo"
    (data / "cluster").mkdir(parents=True)
    (data / "cluster" / "something").touch()
    done = qd("demo", cwd=tmp_path, within=120)
    assert done.returncode == 2
    assert "qd: the demo's service ended with exit code 2" in done.stderr
    assert "holds no complete PostgreSQL cluster" in done.stderr


async def test_a_demo_after_one_of_another_version_starts_with_a_new_database(tmp_path):
    postgres = EmbeddedPostgres(tmp_path / ".quarterdeck" / "demo")
    await postgres.start()
    await Migrator(postgres.dsn()).up()
    connection = await asyncpg.connect(postgres.dsn())
    await connection.execute("update quarterdeck.migration set checksum = 'another'")
    await connection.close()
    await postgres.stop()
    done = await asyncio.to_thread(qd, "demo", cwd=tmp_path, within=120)
    assert done.returncode == 0, done.stderr
    assert "has another schema" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_demo_stops_its_service(tmp_path, number):
    demo = start_qd("demo", cwd=tmp_path)
    data = tmp_path / ".quarterdeck" / "demo"
    await eventually((data / "cluster" / "postmaster.pid").exists, 60)
    postmaster = await eventually(partial(postmaster_of, data))
    demo.send_signal(number)
    _, err = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert err.splitlines()[-1] == "qd: interrupted"
    assert not process_exists(postmaster)
