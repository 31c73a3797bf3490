"""How `qd serve` stops: by signals at any moment, in time, whatever its handlers do."""

import asyncio
import signal
from time import monotonic

import pytest

from tests.e2e.rest import appears, talking_to
from tests.support.commands import postmaster_of, process_exists
from tests.support.processes import cleaned_up, running_service, start_service
from tests.support.waiting import eventually

APP = "tests.e2e.decks:deck"

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("moment", ["data/owner.lock", "data/cluster.new/PG_VERSION", "data/cluster/postmaster.pid"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_during_the_start_ends_it_and_leaves_nothing(tmp_path, moment, number):
    with cleaned_up(start_service(tmp_path)) as service:
        await eventually(lambda: (tmp_path / moment).exists() or service.exit_code is not None, 30)
        service.send(number)
        assert await service.wait(20) == 0, service.log()
        assert "Traceback" not in service.log()
    assert not (tmp_path / "data" / "cluster" / "postmaster.pid").exists()


async def test_a_start_that_was_ended_can_be_made_again(tmp_path):
    with cleaned_up(start_service(tmp_path)) as service:
        await appears(tmp_path / "data" / "cluster.new")
        assert await service.stop() == 0
    async with running_service(tmp_path, APP) as service, talking_to(service) as rest:
        assert (await rest.submit("turn", wait=20))["state"] == "completed"


async def test_running_jobs_may_end_within_the_grace_period(tmp_path, database_url, connection):
    settings = {"QUARTERDECK_DATABASE_URL": database_url}
    async with running_service(tmp_path, APP, settings=settings) as service, talking_to(service) as rest:
        job = await rest.submit("gate", args={"path": str(tmp_path / "gate")})
        await rest.started(job["id"])
        service.send(signal.SIGTERM)
        await eventually(lambda: "service.stops" in service.log())
        (tmp_path / "gate").touch()
        assert await service.wait(25) == 0
    state = await connection.fetchval("select state from quarterdeck.job_history where id = $1", job["id"])
    assert state == "completed"


async def test_a_second_signal_ends_the_grace_period_and_refunds_the_attempt(tmp_path, database_url, connection):
    settings = {"QUARTERDECK_DATABASE_URL": database_url, "QUARTERDECK_SHUTDOWN_GRACE": "600"}
    async with running_service(tmp_path, APP, settings=settings) as service, talking_to(service) as rest:
        job = await rest.submit("gate", args={"path": str(tmp_path / "never")})
        await rest.started(job["id"])
        service.send(signal.SIGTERM)
        await eventually(lambda: "service.stops" in service.log())
        service.send(signal.SIGTERM)
        assert await service.wait(25) == 0
    row = await connection.fetchrow("select state, state_reason, attempt from quarterdeck.job where id = $1", job["id"])
    assert tuple(row) == ("available", "interrupted", 0)
    assert await connection.fetchval("select count(*) from quarterdeck.worker") == 0


@pytest.mark.parametrize("kind", ["block_thread", "resist"])
async def test_what_hangs_in_a_handler_does_not_keep_the_embedded_server_up(tmp_path, kind):
    settings = {"QUARTERDECK_SHUTDOWN_GRACE": "0"}
    async with running_service(tmp_path, APP, settings=settings) as service, talking_to(service) as rest:
        postmaster = postmaster_of(tmp_path / "data")
        paths = [tmp_path / str(number) for number in range(12)]  # more than the loop's pool has threads here
        for path in paths:
            await rest.submit(kind, args={"path": str(path)})
        for path in paths:
            await appears(path)
        began = monotonic()
        assert await service.stop() == 0
        assert monotonic() - began < 10
    assert not process_exists(postmaster)


async def test_a_handler_that_blocks_the_loop_cannot_put_off_the_end(tmp_path, database_url):
    settings = {"QUARTERDECK_DATABASE_URL": database_url, "QUARTERDECK_SHUTDOWN_GRACE": "0"}
    async with running_service(tmp_path, APP, settings=settings) as service, talking_to(service) as rest:
        await rest.submit("block_loop", args={"path": str(tmp_path / "blocked")}, delay=0.5)
        await appears(tmp_path / "blocked")
        began = monotonic()
        assert await service.stop() == 0
        assert monotonic() - began < 10
    assert "service.forced_to_exit" in service.log()


async def test_a_long_poll_is_answered_and_an_upload_that_stalls_is_cut(tmp_path, database_url):
    settings = {"QUARTERDECK_DATABASE_URL": database_url}
    async with running_service(tmp_path, APP, settings=settings) as service, talking_to(service) as rest:
        job = await rest.submit("turn", delay="1h")
        poll = asyncio.create_task(rest.client.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=60"}))
        port = int(service.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 100 \r\n", "the service waits for the body"
        await rest.get(job["id"])  # by a connection after that of the poll, so the poll is there
        began = monotonic()
        assert await service.stop() == 0
        assert monotonic() - began < 8
        assert (await poll).json()["state"] == "scheduled"
        writer.close()


NEVER_CLOSED = """
import asyncio, asyncio.base_events

async def wait_closed(self):
    await asyncio.Event().wait()

asyncio.base_events.Server.wait_closed = wait_closed
raise ImportError("the loop of the standard library is to be used")
"""


async def test_a_server_that_waits_for_its_connections_for_ever_does_not_keep_jobs(tmp_path, database_url, connection):
    (tmp_path / "uvloop.py").write_text(NEVER_CLOSED)  # what Python does from 3.12.1 on, made worse
    settings = {
        "QUARTERDECK_DATABASE_URL": database_url,
        "PYTHONPATH": str(tmp_path),
        "QUARTERDECK_SHUTDOWN_GRACE": "1",
    }
    async with running_service(tmp_path, APP, settings=settings) as service, talking_to(service) as rest:
        job = await rest.submit("gate", args={"path": str(tmp_path / "never")})
        await rest.started(job["id"])
        assert await service.stop() == 0
        assert "service.forced_to_exit" not in service.log()
    row = await connection.fetchrow("select state, attempt from quarterdeck.job where id = $1", job["id"])
    assert tuple(row) == ("available", 0)


async def test_a_loop_that_dies_ends_the_service_with_5(tmp_path, database_url):
    settings = {"QUARTERDECK_DATABASE_URL": database_url}
    async with (
        running_service(tmp_path, "tests.e2e.dying:deck", settings=settings) as service,
        talking_to(service) as rest,
    ):
        await rest.submit("strike")
        assert await service.wait(25) == 5
    assert "qd: an inner loop of the service died" in service.log()
    assert "RuntimeError: this loop is broken" in service.log()
