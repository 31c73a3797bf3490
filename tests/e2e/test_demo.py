"""`qd demo` does real work and says so truly."""

import hashlib
import json
import os
import signal
from functools import partial

import httpx
import pytest

from quarterdeck.cli.demo_work import KINDS
from tests.support.commands import postmaster_of, process_exists, qd, start_qd
from tests.support.processes import REPOSITORY
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(180)


def test_the_demo_counts_and_checks_the_files_of_this_repository(tmp_path):
    done = qd("demo", "--json", cwd=tmp_path, settings={"QUARTERDECK_AUTH": "required"}, within=120)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    files = {file["path"]: file for file in report["files"]}
    assert report["jobs"] == len(files) * len(KINDS)
    assert report["checks"] == {"compared": len(files), "different": []}
    assert set(report["kinds"]) == set(KINDS)
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

    again = qd("demo", cwd=tmp_path, within=120)
    assert again.returncode == 0, again.stderr
    for words in ("LICENSE", "word_count", "checksum", "checksums are the same when computed directly"):
        assert words in again.stdout


def test_keep_leaves_the_service_running(tmp_path):
    done = qd("demo", "--keep", "--json", cwd=tmp_path, within=120)
    assert done.returncode == 0, done.stderr
    service = json.loads(done.stdout)["service"]
    try:
        assert httpx.get(f"{service['url']}/readyz", trust_env=False).status_code == httpx.codes.OK
    finally:
        os.kill(service["pid"], signal.SIGTERM)
    assert service["url"] in (tmp_path / ".quarterdeck" / "demo" / "serve.log").read_text()


def test_a_demo_whose_service_cannot_start_says_why(tmp_path):
    data = tmp_path / ".quarterdeck" / "demo"
    (data / "cluster").mkdir(parents=True)
    (data / "cluster" / "something").touch()
    done = qd("demo", cwd=tmp_path, within=120)
    assert done.returncode == 2
    assert "qd: the demo's service ended with exit code 2" in done.stderr
    assert "holds no complete PostgreSQL cluster" in done.stderr


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
