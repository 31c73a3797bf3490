"""Whether the service lives and is ready, and what it says while it is not."""

import asyncio
import time

import pytest

from quarterdeck.bootstrap import COMMAND_TIMEOUT, Runtime
from quarterdeck.config import Settings
from quarterdeck.web.app import create_app
from tests.contract.client import Client
from tests.contract.line import Line
from tests.support.processes import free_port
from tests.support.waiting import eventually

SUM = {"left": 1, "right": 2}
SECRET = "swordfish"


async def test_a_ready_service_says_so(client):
    assert (await client.get("/livez")).json == {"status": "live"}
    answer = await client.get("/readyz")
    assert (answer.status, answer.json) == (200, {"status": "ready", "database": "ok", "engine": "ok"})


async def test_a_service_with_a_dead_loop_is_not_live_and_not_ready(client, runtime):
    runtime.engine.parts.tasks.spawn("doomed", fail())
    await eventually(lambda: runtime.failure)
    answer = await client.get("/livez")
    assert (answer.status, answer.json) == (503, {"status": "failed"})
    assert (await client.get("/readyz")).status == 503


async def fail():
    raise RuntimeError("a loop died")


async def test_a_draining_service_is_live_but_not_ready_and_ends_long_polls_at_once(client, runtime):
    job = (await client.submit("hold")).json
    path = f"/v1/jobs/{job['id']}"
    tag = (await client.get(path)).headers["ETag"]
    looks = [
        asyncio.create_task(client.get(path, Prefer="wait=60")),
        asyncio.create_task(client.get(path, Prefer="wait=60", If_None_Match=tag)),
        asyncio.create_task(client.get(f"{path}/result", Prefer="wait=60")),
        asyncio.create_task(client.submit("hold", headers={"Prefer": "wait=60"})),
    ]
    await eventually(lambda: sum(map(len, runtime.engine.parts.waiters._expected.values())) == len(looks))
    began = time.monotonic()
    runtime.drain()
    answers = await asyncio.gather(*looks)
    assert time.monotonic() - began < 20, "a long poll takes 60"
    assert [answer.status for answer in answers] == [200, 304, 202, 202]
    assert (await client.get("/livez")).status == 200
    answer = await client.get("/readyz")
    assert (answer.status, answer.json) == (503, {"status": "not ready", "database": "ok", "engine": "draining"})


async def test_a_stopping_service_takes_nothing_new(client, runtime):
    await runtime.stop()
    answer = await client.submit("add", SUM)
    answer.problem(503, answer.json["type"].removeprefix("/problems/"))
    assert int(answer.headers["Retry-After"]) > 0


async def test_a_service_that_never_reached_its_database_answers_503_and_tells_nothing_of_it():
    dsn = f"postgresql://admiral:{SECRET}@127.0.0.1:{free_port()}/quarterdeck"
    app = create_app(Runtime(Settings(database_url=dsn, shutdown_grace=0)))
    client = Client(app)
    job_path = "/v1/jobs/0193b5c0-0000-7000-8000-000000000000"
    async with app.test_app():
        assert (await client.get("/livez")).status == 200
        ready = await client.get("/readyz")
        assert (ready.status, ready.json) == (
            503,
            {"status": "not ready", "database": "unavailable", "engine": "starting"},
        )
        answers = [
            await client.submit("quarterdeck.echo"),
            await client.get(job_path),
            await client.get(f"{job_path}/result"),
            await client.call("POST", f"{job_path}/cancel"),
        ]
        for answer in answers:
            answer.problem(503, "unavailable")
            assert int(answer.headers["Retry-After"]) > 0
            assert SECRET not in answer.body.decode()
            assert "postgres" not in answer.body.decode()
        (await client.call("POST", "/v1/jobs", text=b"junk")).problem(400, "malformed-json")


@pytest.fixture
async def line(database_url):
    """What the service reaches its database by, and what can be cut."""
    async with Line.to(database_url) as line:
        yield line


@pytest.fixture
def settings(request, database_url):
    line = request.getfixturevalue("line") if "line" in request.fixturenames else None
    return Settings(database_url=line.dsn if line else database_url, shutdown_grace=0)


async def test_a_service_that_lost_its_database_answers_503_soon(client, line):
    job = (await client.submit("add", SUM, headers={"Prefer": "wait=10"})).json
    await line.cut()
    for call in (
        lambda: client.submit("add", SUM),
        lambda: client.get(f"/v1/jobs/{job['id']}"),
        lambda: client.get(f"/v1/jobs/{job['id']}/result", Prefer="wait=30"),
        lambda: client.call("POST", f"/v1/jobs/{job['id']}/cancel"),
    ):
        began = time.monotonic()
        answer = await call()
        answer.problem(503, "unavailable")
        assert time.monotonic() - began < COMMAND_TIMEOUT, "nobody waits until the statement is given up"
        assert int(answer.headers["Retry-After"]) > 0
    ready = await client.get("/readyz")
    assert (ready.status, ready.json["database"]) == (503, "unavailable")
    assert (await client.get("/livez")).status == 200


async def test_a_job_that_is_stored_is_accepted_even_if_it_cannot_be_waited_for(client, runtime, line):
    submit = asyncio.create_task(client.submit("hold", headers={"Prefer": "wait=1"}))
    await eventually(lambda: runtime.engine.parts.waiters._expected)
    await line.cut()
    answer = await submit
    assert answer.status == 202
    assert answer.headers["Preference-Applied"] == "wait=1"
    assert answer.json["state"] == "running"


async def test_the_unexpected_is_a_500_that_tells_an_id_and_the_log_the_rest(client, runtime, monkeypatch, caplog):
    async def broken(*_args, **_options):
        raise RuntimeError(f"select * from job at postgresql://{SECRET}@host in /etc/passwd")

    monkeypatch.setattr(runtime.engine.jobs, "get", broken)
    answer = await client.get("/v1/jobs/0193b5c0-0000-7000-8000-000000000000")
    problem = answer.problem(500, "internal")
    assert set(problem) == {"type", "title", "status", "detail", "error_id"}
    for hidden in (SECRET, "select", "passwd", "Traceback", "RuntimeError", ".py"):
        assert hidden not in answer.body.decode()
    (record,) = [record for record in caplog.records if problem["error_id"] in record.getMessage()]
    assert record.exc_info
    assert record.levelname == "ERROR"
