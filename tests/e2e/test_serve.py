"""`qd serve` with the embedded database: from a POST to a result, to an end that leaves nothing behind."""

import json
import signal
import socket

import httpx
import pytest

from tests.e2e.rest import talking_to
from tests.support.commands import postmaster_of, process_exists
from tests.support.processes import cleaned_up, running_service, start_service
from tests.support.waiting import eventually

APP = "examples.quickstart.app:deck"

pytestmark = pytest.mark.timeout(120)


def events(service, name):
    lines = [json.loads(line) for line in service.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


async def test_a_job_goes_from_a_post_to_a_result_and_ctrl_c_stops_everything(tmp_path):
    async with running_service(tmp_path, APP) as service:
        postmaster = postmaster_of(tmp_path / "data")
        async with talking_to(service) as rest:
            job = await rest.submit("word_count", args={"path": "pyproject.toml"}, wait=20)
            assert job["state"] == "completed"
            result = (await rest.client.get(f"/v1/jobs/{job['id']}/result")).json()
            assert result == job["result"]
            assert result["path"] == "pyproject.toml"
            assert result["words"] > 100
        assert process_exists(postmaster)
        service.send(signal.SIGINT)
        assert await service.wait(25) == 0
        assert not process_exists(postmaster)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=5)
    assert [line["exit_code"] for line in events(service, "service.forced_to_exit")] == []
    assert "Traceback" not in service.log()


async def test_a_second_start_finds_every_job_again(tmp_path):
    async with running_service(tmp_path, APP) as service, talking_to(service) as rest:
        done = await rest.submit("checksum", args={"path": "pyproject.toml"}, wait=20)
        waiting = await rest.submit("checksum", args={"path": "pyproject.toml"}, delay="1h")
        assert (done["state"], waiting["state"]) == ("completed", "scheduled")
    async with running_service(tmp_path, APP) as service, talking_to(service) as rest:
        assert await rest.get(done["id"]) == done
        assert await rest.get(waiting["id"]) == waiting


async def test_port_0_takes_a_free_port_and_tells_it(tmp_path, database_url):
    settings = {"QUARTERDECK_BIND": "127.0.0.1:0", "QUARTERDECK_DATABASE_URL": database_url}
    with cleaned_up(start_service(tmp_path, settings=settings)) as service:
        (ready,) = await eventually(lambda: events(service, "service.ready"), 30)
        assert ready["role"] == "all"
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(ready["url"] + "/livez")).status_code == httpx.codes.OK
        assert await service.stop() == 0


async def test_requests_are_logged_once_and_without_their_query(tmp_path, database_url):
    settings = {"QUARTERDECK_DATABASE_URL": database_url}
    async with running_service(tmp_path, settings=settings) as service, talking_to(service) as rest:
        answer = await rest.client.get("/v1/jobs/no-id", params={"token": "secret"})
        (line,) = await eventually(
            lambda: [one for one in events(service, "request.answered") if "no-id" in one["path"]]
        )
    assert (line["method"], line["path"], line["status"], line["client"]) == ("GET", "/v1/jobs/no-id", 404, "127.0.0.1")
    assert (line["route"], line["principal"]) == ("/v1/jobs/{id}", "anybody")
    assert line["request_id"] == answer.headers["X-Request-Id"]
    assert line["bytes"] == len(answer.content)
    assert "secret" not in service.log()


async def test_a_service_works_on_the_loop_of_the_standard_library_too(tmp_path, database_url):
    (tmp_path / "uvloop.py").write_text("raise ImportError('not on this platform')\n")
    settings = {"QUARTERDECK_DATABASE_URL": database_url, "PYTHONPATH": str(tmp_path)}
    async with running_service(tmp_path, APP, settings=settings) as service, talking_to(service) as rest:
        assert (await rest.submit("quarterdeck.echo", args={"a": 1}, wait=20))["result"] == {"a": 1}
        assert await service.stop() == 0
