"""`qd serve --workers N`: several processes on one address, kept up, replaced one by one, stopped together."""

import asyncio
import collections
import os
import signal
from time import monotonic

import httpx
import pytest

from tests.e2e.rest import talking_to
from tests.support.commands import postmaster_of, process_exists
from tests.support.processes import cleaned_up, running_service, start_service
from tests.support.waiting import eventually

APP = "tests.e2e.decks:deck"
TWO = (APP, "--workers", "2")

pytestmark = pytest.mark.timeout(120)


async def serving(service, count=2):
    """The children, once there are so many and each of them is ready."""

    def ready():
        children = service.children()
        return children if len(children) == count and all(is_ready(service, pid) for pid in children) else []

    return set(await eventually(ready, 30))


def is_ready(service, pid):
    return any("process.ready" in line and f'"pid":{pid}' in line for line in service.log().splitlines())


class Load:
    """POSTs without a pause, by connections that are kept and by new ones; `answers` counts them by status."""

    def __init__(self, url):
        self.answers = collections.Counter()
        self._url = url
        self._on = True

    async def __aenter__(self):
        kept = [self._post_on(pause, {}) for pause in (0.01, 0.02, 0.1, 0.3, 0.9)]
        fresh = [self._post_on(0.01, {"Connection": "close"}) for _ in range(2)]
        self._tasks = [asyncio.create_task(each) for each in (*kept, *fresh)]
        await eventually(lambda: self.answers.total() > 20)
        return self

    async def __aexit__(self, *_):
        self._on = False
        await asyncio.gather(*self._tasks)

    async def _post_on(self, pause, headers):
        async with httpx.AsyncClient(base_url=self._url, headers=headers, timeout=20, trust_env=False) as client:
            while self._on:
                await self._post(client)
                await asyncio.sleep(pause)

    async def _post(self, client):
        try:
            answer = await client.post("/v1/jobs", json={"kind": "quarterdeck.echo", "args": {}})
        except httpx.HTTPError as error:
            self.answers[repr(error)] += 1
        else:
            refused = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and "Retry-After" in answer.headers
            self.answers["refused for now" if refused else answer.status_code] += 1


async def test_a_rolling_restart_replaces_every_process_and_drops_no_request(
    tmp_path, database_url, connection, python
):
    settings = {"QUARTERDECK_DATABASE_URL": database_url}
    async with running_service(tmp_path, *TWO, settings=settings, python=python) as service:
        old = await serving(service)
        async with Load(service.url) as load:
            service.send(signal.SIGHUP)
            await eventually(lambda: "service.rolled" in service.log(), 60)
        new = await serving(service)
        assert not old & new
        accepted = load.answers.pop(httpx.codes.ACCEPTED)
        load.answers.pop("refused for now", None)
        assert not load.answers, "answers that are neither 202 nor 503 with Retry-After, or none at all"
        assert await service.stop() == 0
        assert not any(process_exists(pid) for pid in new)
    stored = await connection.fetchval(
        "select (select count(*) from quarterdeck.job) + (select count(*) from quarterdeck.job_history)"
    )
    assert stored == accepted


async def test_a_process_that_goes_is_replaced_and_a_stop_that_all_are_told_of_leaves_jobs_their_grace_period(
    tmp_path, database_url
):
    settings = {"QUARTERDECK_DATABASE_URL": database_url}
    arguments = ("tests.e2e.dying:deck", "--workers", "2")
    async with running_service(tmp_path, *arguments, settings=settings) as service, talking_to(service) as rest:
        first, second = await serving(service)
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: first not in service.children())
        (third,) = await serving(service) - {second}
        os.kill(second, signal.SIGTERM)
        await eventually(lambda: second not in service.children())
        (fourth,) = await serving(service) - {third}
        await rest.submit("strike")
        await eventually(lambda: '"exit_code":5' in service.log(), 20)
        last = await serving(service)
        assert len(last & {third, fourth}) == 1
        job = await rest.submit("gate", args={"path": str(tmp_path / "gate")})
        await rest.started(job["id"])
        drains = service.log().count("engine.drains")
        for pid in (service.pid, *last):  # as service managers do
            os.kill(pid, signal.SIGTERM)
        await eventually(lambda: service.log().count("engine.drains") == drains + 2)
        (tmp_path / "gate").touch()
        assert await service.wait(25) == 0
        assert "hurries" not in service.log()
        assert "engine.interrupts" not in service.log()


async def test_a_second_signal_hurries_all_processes(tmp_path, database_url, connection):
    settings = {"QUARTERDECK_DATABASE_URL": database_url, "QUARTERDECK_SHUTDOWN_GRACE": "600"}
    async with running_service(tmp_path, *TWO, settings=settings) as service, talking_to(service) as rest:
        await serving(service)
        jobs = [await rest.submit("gate", args={"path": str(tmp_path / "never")}) for _ in range(4)]
        for job in jobs:
            await rest.started(job["id"])
        service.send(signal.SIGTERM)
        await eventually(lambda: service.log().count('"process.stops"') == 2)
        service.send(signal.SIGTERM)
        assert await service.wait(25) == 0
    rows = await connection.fetch("select distinct state, state_reason, attempt from quarterdeck.job")
    assert [tuple(row) for row in rows] == [("available", "interrupted", 0)]
    assert await connection.fetchval("select count(*) from quarterdeck.worker") == 0


async def test_processes_whose_parent_was_killed_stop_by_themselves(tmp_path, database_url, connection):
    settings = {"QUARTERDECK_DATABASE_URL": database_url, "QUARTERDECK_SHUTDOWN_GRACE": "0.5"}
    with cleaned_up(start_service(tmp_path, *TWO, settings=settings)) as service:
        children = await serving(service)
        async with talking_to(service) as rest:
            job = await rest.submit("gate", args={"path": str(tmp_path / "never")})
            await rest.started(job["id"])
        os.kill(service.pid, signal.SIGKILL)
        await eventually(lambda: not any(process_exists(pid) for pid in children), 15)
    row = await connection.fetchrow("select state, state_reason, attempt from quarterdeck.job where id = $1", job["id"])
    assert tuple(row) == ("available", "interrupted", 0)


async def test_processes_that_do_not_end_are_killed_in_time(tmp_path, database_url):
    settings = {"QUARTERDECK_DATABASE_URL": database_url, "QUARTERDECK_SHUTDOWN_GRACE": "0"}
    async with running_service(tmp_path, *TWO, settings=settings) as service:
        stuck, _ = await serving(service)
        os.kill(stuck, signal.SIGSTOP)
        began = monotonic()
        assert await service.stop() == 0
        assert monotonic() - began < 20
        assert "process.killed" in service.log()
        assert not process_exists(stuck)


@pytest.mark.parametrize("moment", ["process.started", "process.ready"])
async def test_a_signal_during_the_start_ends_all_and_the_embedded_server(tmp_path, moment):
    with cleaned_up(start_service(tmp_path, *TWO)) as service:
        await eventually(lambda: moment in service.log(), 30)
        postmaster = postmaster_of(tmp_path / "data")
        children = service.children()
        service.send(signal.SIGTERM)
        assert await service.wait(20) == 0, service.log()
        assert not any(process_exists(pid) for pid in (postmaster, *children))
        assert "Traceback" not in service.log()


async def test_a_restart_takes_up_new_settings_and_goes_on_with_the_old_where_the_new_are_wrong(tmp_path, database_url):
    file = tmp_path / "settings.toml"
    file.write_text("concurrency = 3")
    settings = {"QUARTERDECK_DATABASE_URL": database_url}
    arguments = (*TWO, "--config", str(file))
    async with running_service(tmp_path, *arguments, settings=settings) as service, talking_to(service) as rest:
        old = await serving(service)
        file.write_text("concurrency = none")
        service.send(signal.SIGHUP)
        await eventually(lambda: "service.roll_failed" in service.log(), 20)
        assert set(service.children()) == old
        assert (await rest.submit("turn", wait=20))["result"] in old
        file.write_text("concurrency = 7")
        service.send(signal.SIGHUP)
        await eventually(lambda: "service.rolled" in service.log(), 30)
        workers = (await rest.client.get("/v1/workers")).json()["items"]
        assert {worker["pid"] for worker in workers} == await serving(service)
        assert {worker["slots"] for worker in workers} == {7}
        started = service.log().count("process.started")
        service.send(signal.SIGHUP)
        await eventually(lambda: service.log().count("process.started") > started)
        children = service.children()
        assert await service.stop() == 0, "also in the middle of a restart"
        assert len(children) == 3
        assert not any(process_exists(pid) for pid in children)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nowhere:deck",), 2, "qd: app 'nowhere:deck': there is no module"),
        (("--no-migrate",), 4, "qd: "),
        (("--workers", "17", "--database-url", "embedded"), 2, "qd: workers = 17"),
    ],
    ids=["app", "schema", "too many"],
)
async def test_what_no_process_can_start_with_is_told_once(tmp_path, empty_database, arguments, code, words):
    settings = {"QUARTERDECK_DATABASE_URL": empty_database}
    with cleaned_up(start_service(tmp_path, "--workers", "3", *arguments, settings=settings)) as service:
        assert await service.wait(20) == code, service.log()
    assert service.log().count(words) == 1


async def test_a_database_that_comes_late_is_waited_for(tmp_path):
    settings = {"QUARTERDECK_DATABASE_URL": f"postgresql://postgres@/none?host={tmp_path}"}
    with cleaned_up(start_service(tmp_path, *TWO, settings=settings)) as service:
        await serving(service)
        async with httpx.AsyncClient(base_url=service.url, trust_env=False) as client:
            assert (await client.get("/livez")).status_code == httpx.codes.OK
            answer = await client.post("/v1/jobs", json={"kind": "turn"})
            assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
            assert "Retry-After" in answer.headers
        assert await service.stop() == 0
