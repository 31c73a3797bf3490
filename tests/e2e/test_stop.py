"""How `qd serve` stops: by signals at any moment, in time, whatever its handlers do."""

import asyncio
import signal
import sys
from pathlib import Path
from time import monotonic

import pytest

from tests.e2e.rest import appears, talking_to
from tests.support.commands import postmaster_of, process_exists
from tests.support.interpreters import VERSIONS, interpreter
from tests.support.processes import cleaned_up, running_service, start_service
from tests.support.waiting import eventually

APP = "tests.e2e.decks:deck"

pytestmark = pytest.mark.timeout(120)


async def end_at(moment, number, directory, python=sys.executable):
    with cleaned_up(start_service(directory, python=python)) as service:
        await eventually(lambda: (directory / moment).exists() or service.exit_code is not None, 30)
        service.send(number)
        assert await service.wait(20) == 0, service.log()
        assert "Traceback" not in service.log()
    assert not (directory / "data" / "cluster" / "postmaster.pid").exists()


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("data/owner.lock", signal.SIGINT),
        ("data/owner.lock", signal.SIGTERM),
        ("data/cluster.new/PG_VERSION", signal.SIGTERM),
        ("data/cluster/postmaster.pid", signal.SIGINT),
    ],
)
async def test_a_signal_during_the_start_ends_it_and_leaves_nothing(tmp_path, moment, number):
    await end_at(moment, number, tmp_path)


async def test_a_signal_during_the_start_ends_it_on_every_python(tmp_path, python):
    await end_at("data/cluster/postmaster.pid", signal.SIGTERM, tmp_path, python)


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


async def test_a_second_signal_ends_the_grace_period_and_refunds_the_attempt(
    tmp_path, database_url, connection, python
):
    settings = {"QUARTERDECK_DATABASE_URL": database_url, "QUARTERDECK_SHUTDOWN_GRACE": "600"}
    async with running_service(tmp_path, APP, settings=settings, python=python) as service, talking_to(service) as rest:
        job = await rest.submit("gate", args={"path": str(tmp_path / "never")})
        await rest.started(job["id"])
        service.send(signal.SIGTERM)
        await eventually(lambda: "service.stops" in service.log())
        service.send(signal.SIGTERM)
        assert await service.wait(25) == 0
    row = await connection.fetchrow("select state, state_reason, attempt from quarterdeck.job where id = $1", job["id"])
    assert tuple(row) == ("available", "interrupted", 0)
    assert await connection.fetchval("select count(*) from quarterdeck.worker") == 0


async def test_prefetched_jobs_are_given_back_at_once_and_run_by_another_process(tmp_path, database_url, connection):
    settings = {"QUARTERDECK_DATABASE_URL": database_url}
    slots, jobs = 4, 40
    held = "select worker, count(*) from quarterdeck.job where state = 'running' and kind = 'gate' group by worker"

    async def running():
        return {worker.split("-")[-2]: count for worker, count in await connection.fetch(held)}

    async with running_service(tmp_path, APP, "--concurrency", str(slots), settings=settings) as service:
        async with talking_to(service) as rest:
            # Short jobs make it fetch ahead; then long ones take its slots.
            submits = [rest.submit("turn", priority=1) for _ in range(150)]
            submits += [rest.submit("gate", args={"path": str(tmp_path / "gate")}) for _ in range(jobs)]
            await asyncio.gather(*submits)

        async def has_fetched_ahead():
            return (await running()).get(str(service.pid), 0) > slots

        await eventually(has_fetched_ahead, 20)
        async with running_service(tmp_path, APP, settings=settings) as other:

            async def all_are_held():
                return sum((await running()).values()) == jobs

            async def nothing_is_held_unstarted():
                return (await running())[str(service.pid)] == slots

            async def all_are_held_elsewhere_but_those_that_run_here():
                return await running() == {str(service.pid): slots, str(other.pid): jobs - slots}

            await eventually(all_are_held, 20)
            assert (await running())[str(service.pid)] > slots
            service.send(signal.SIGTERM)
            await eventually(nothing_is_held_unstarted, 10)  # and it does not end before its grace period, 15 s, does
            await eventually(all_are_held_elsewhere_but_those_that_run_here, 10)
            (tmp_path / "gate").touch()
            assert await service.wait(25) == 0
            await eventually(lambda: connection.fetchval("select count(*) = 0 from quarterdeck.job"), 20)
    ended = "select distinct state, attempt, crashes from quarterdeck.job_history where kind = 'gate'"
    assert [tuple(row) for row in await connection.fetch(ended)] == [("completed", 1, 0)]


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
        assert monotonic() - began < 20
    assert not process_exists(postmaster)


async def test_a_handler_that_blocks_the_loop_cannot_put_off_the_end(tmp_path, database_url):
    settings = {"QUARTERDECK_DATABASE_URL": database_url, "QUARTERDECK_SHUTDOWN_GRACE": "0"}
    async with running_service(tmp_path, APP, settings=settings) as service, talking_to(service) as rest:
        await rest.submit("block_loop", args={"path": str(tmp_path / "blocked")}, delay=0.5)
        await appears(tmp_path / "blocked")
        began = monotonic()
        assert await service.stop() == 0
        assert monotonic() - began < 20
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
        assert monotonic() - began < 20
        assert (await poll).json()["state"] == "scheduled"
        writer.close()


async def test_a_stop_ends_in_25_seconds_whatever_is_open_and_answers_every_long_poll(
    tmp_path, database_url, connection
):
    pythons = [found for found in map(interpreter, VERSIONS) if found is not None]
    jobs = await asyncio.gather(*(stop_with_long_polls(tmp_path, database_url, python) for python in pythons))
    rows = await connection.fetch(
        "select state, state_reason, attempt from quarterdeck.job where id = any($1::uuid[])", jobs
    )
    assert [tuple(row) for row in rows] == [("available", "interrupted", 0)] * len(pythons)


async def stop_with_long_polls(directory, database_url, python):
    queue = f"for-{python.parent.parent.name.strip('.')}"
    settings = {"QUARTERDECK_DATABASE_URL": database_url, "QUARTERDECK_QUEUES": queue}
    later = {"kind": "turn", "queue": queue, "delay": "1h"}
    wait = {"Prefer": "wait=60"}
    async with running_service(directory, APP, settings=settings, python=python) as service:
        async with talking_to(service) as rest:
            runs = await rest.submit("gate", queue=queue, args={"path": str(directory / "never")})
            await rest.started(runs["id"])
            waits = await rest.submit(**later)
            requests = [rest.client.get(f"/v1/jobs/{waits['id']}", headers=wait) for _ in range(46)]
            requests += [rest.client.post("/v1/jobs", json=later, headers=wait) for _ in range(2)]
            requests += [rest.client.get(f"/v1/jobs/{runs['id']}/result", headers=wait) for _ in range(2)]
            polls = [asyncio.create_task(request) for request in requests]
            await eventually(lambda: connections_to(service) >= len(polls), 15)
            async with talking_to(service) as another:
                await another.get(runs["id"])  # the polls came before it
            began = monotonic()
            service.send(signal.SIGTERM)
            answers = await asyncio.gather(*polls)
            assert monotonic() - began < 12, "long before the grace period is over"
            assert [answer.status_code for answer in answers] == [200] * 46 + [202] * 4
            assert all(answer.headers["Connection"] == "close" for answer in answers)
            assert {answer.json()["state"] for answer in answers[:48]} == {"scheduled"}
        assert await service.wait(25) == 0
        assert 14 < monotonic() - began < 25
    return runs["id"]


def connections_to(service):
    """How many clients are connected to the service."""
    port = f"{int(service.url.rpartition(':')[2]):04X}"
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(local.endswith(f":{port}") and state == "01" for _, local, _, state, *_ in sockets)


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


@pytest.mark.parametrize("loop", ["tick", "producer", "completer"])
async def test_a_service_whose_loop_dies_says_so_while_jobs_get_their_grace_period_and_ends_with_5(
    tmp_path, database_url, connection, loop
):
    settings = {"QUARTERDECK_DATABASE_URL": database_url, "DYING_LOOP": loop}
    async with running_service(tmp_path, "tests.e2e.dying:deck", settings=settings) as service:
        async with talking_to(service) as rest:
            job = await rest.submit("gate", args={"path": str(tmp_path / "gate")})
            await rest.started(job["id"])
            await rest.submit("strike")

        async def answers():
            async with talking_to(service) as rest:  # by a new connection each time, as those do who watch a service
                return [(await rest.client.get(path)).status_code for path in ("/livez", "/readyz")]

        async def failed():
            return await answers() == [503, 503]

        await eventually(failed)
        (tmp_path / "gate").touch()
        assert await service.wait(25) == 5
    assert "qd: an inner loop of the service died" in service.log()
    assert "RuntimeError: this loop is broken" in service.log()
    if loop != "completer":
        state = await connection.fetchval("select state from quarterdeck.job_history where id = $1", job["id"])
        assert state == "completed"
