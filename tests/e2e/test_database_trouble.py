"""`qd serve` while its database cannot be reached: it answers 503, says so, tries again, and recovers by itself."""

import asyncio
import contextlib
from time import monotonic
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from quarterdeck.bootstrap import COMMAND_TIMEOUT
from tests.e2e.rest import talking_to
from tests.support.processes import cleaned_up, free_port, start_service
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(120)


class Forwarder:
    """A way to the real server that can be opened and cut: a TCP port of this machine."""

    def __init__(self, dsn):
        self.port = free_port()
        self.dsn = dsn
        self._server = None
        self._tasks = set()

    @property
    def url(self):
        """The same database, by this way."""
        parts = urlsplit(self.dsn)
        user = parts.netloc.rpartition("@")[0] or "postgres"
        return f"postgresql://{user}@127.0.0.1:{self.port}{parts.path}"

    async def open(self):
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)

    async def cut(self):
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self):
        parts = urlsplit(self.dsn)
        options = parse_qs(parts.query)
        port = options.get("port", [str(parts.port or 5432)])[0]
        if "host" in options:
            return await asyncio.open_unix_connection(f"{options['host'][0]}/.s.PGSQL.{port}")
        return await asyncio.open_connection(parts.hostname, int(port))

    async def _forward(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            there, back = await self._connect()
            try:
                await asyncio.gather(self._copy(reader, back), self._copy(there, writer))
            finally:
                back.close()
        except asyncio.CancelledError:  # the callback of a stream server must not end by it
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _copy(self, reader, writer):
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        writer.close()


@pytest.fixture
async def way(database_url):
    forwarder = Forwarder(database_url)
    yield forwarder
    await forwarder.cut()


async def answers_503(rest):
    began = monotonic()
    submitted = await rest.client.post("/v1/jobs", json={"kind": "quarterdeck.echo"})
    looked_up = await rest.client.get("/v1/jobs/0193a5b0-0000-7000-8000-000000000000")
    assert [submitted.status_code, looked_up.status_code] == [503, 503]
    assert submitted.headers["Retry-After"]
    assert submitted.json()["title"]
    assert monotonic() - began < 2 * COMMAND_TIMEOUT, "within 2 s each, and not when a statement is given up"
    return True


async def works(rest):
    answer = await rest.client.post("/v1/jobs", json={"kind": "quarterdeck.echo"}, headers={"Prefer": "wait=20"})
    return answer.status_code == httpx.codes.OK and answer.json()["state"] == "completed"


async def test_a_service_starts_without_its_database_and_recovers_by_itself(tmp_path, way):
    settings = {"QUARTERDECK_DATABASE_URL": way.url}
    with cleaned_up(start_service(tmp_path, settings=settings)) as service:
        await eventually(lambda: "service.ready" in service.log(), 30)
        assert "database.unreachable" in service.log()
        async with talking_to(service) as rest:
            assert (await rest.client.get("/livez")).status_code == httpx.codes.OK
            assert (await rest.client.get("/readyz")).status_code == httpx.codes.SERVICE_UNAVAILABLE
            await answers_503(rest)
            await way.open()
            await service.wait_until_ready()
            assert await works(rest)
        assert await service.stop() == 0
    assert "Traceback" not in service.log()


async def test_a_database_that_goes_away_and_comes_back(tmp_path, way):
    await way.open()
    settings = {"QUARTERDECK_DATABASE_URL": way.url}
    with cleaned_up(start_service(tmp_path, settings=settings)) as service:
        await service.wait_until_ready()
        async with talking_to(service) as rest:
            assert await works(rest)
            await way.cut()
            await eventually(lambda: answers_503(rest), 20)
            await way.open()
            await service.wait_until_ready()
            assert await eventually(lambda: works(rest), 20)
        assert await service.stop() == 0


async def test_a_service_without_its_database_stops_at_once(tmp_path, way):
    with cleaned_up(start_service(tmp_path, settings={"QUARTERDECK_DATABASE_URL": way.url})) as service:
        await eventually(lambda: "service.ready" in service.log(), 30)
        began = monotonic()
        assert await service.stop() == 0
        assert monotonic() - began < 15


async def test_a_database_found_ahead_later_ends_the_service_with_4(tmp_path, way, connection):
    await connection.execute(
        "insert into quarterdeck.migration (version, name, checksum, duration_ms) values (9999, 'future', 'x', 1)"
    )
    with cleaned_up(start_service(tmp_path, settings={"QUARTERDECK_DATABASE_URL": way.url})) as service:
        await eventually(lambda: "service.ready" in service.log(), 30)
        await way.open()
        assert await service.wait() == 4
    assert "qd: the database is ahead: 9999_future" in service.log()
