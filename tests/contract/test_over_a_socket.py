"""What only a real connection shows: large and slow bodies, answers without bodies, clients that go away."""

import asyncio
import socket
from contextlib import asynccontextmanager

import httpx
import pytest
from hypercorn.asyncio import serve
from hypercorn.config import Config

from quarterdeck.web.app import create_app
from quarterdeck.web.body import LIMIT, SETTLE_TIMEOUT
from tests.support.running import worker_of
from tests.support.waiting import eventually

NO_JOB = "0193b5c0-0000-7000-8000-000000000000"


@pytest.fixture
def app(runtime):
    return create_app(runtime)


@pytest.fixture
async def port(app, runtime):
    """The port of the application behind the server it is made for."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]  # the server closes it
    config.graceful_timeout = 1
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))
    await eventually(lambda: serving.done() or worker_of_started(runtime))
    yield port
    stop.set()
    await serving


def worker_of_started(runtime):
    return runtime._engine is not None and worker_of(runtime)


@pytest.fixture
async def http(port):
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as http:
        yield http


@asynccontextmanager
async def connected(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def chunks(size, count):
    for _ in range(count):
        yield b"a" * size


async def test_who_sends_too_much_sees_the_answer(http):
    for content in (b"a" * 3 * LIMIT, chunks(65536, 48)):
        answer = await http.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert (await http.get("/livez")).status_code == 200


async def test_who_sends_without_end_is_answered_after_four_times_the_limit(port):
    async with connected(port) as (reader, writer):
        writer.write(
            b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
        for _ in range(4 * LIMIT // 65536):
            writer.write(chunk)
            await writer.drain()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        writer.write(chunk)
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("POST /v1/nowhere", 404),
        ("PUT /v1/jobs", 405),
        ("GET /livez", 200),
        (f"POST /v1/jobs/{NO_JOB}/cancel", 404),
        ("POST /v1/jobs", 415),
        ("POST /v1/jobs HTTP/1.1\r\nOrigin: http://evil.test\r\nX:", 403),
    ],
)
async def test_who_is_still_sending_is_answered_only_then(port, target, status):
    async with connected(port) as (reader, writer):
        half = b"a" * LIMIT
        writer.write(f"{target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {2 * LIMIT}\r\n\r\n".encode() + half)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)
        writer.write(half)
        assert (await reader.readline()).startswith(f"HTTP/1.1 {status}".encode())


async def test_a_body_that_does_not_come_is_a_408(app, port):
    app.config["BODY_TIMEOUT"] = 0.1
    async with connected(port) as (reader, writer):
        writer.write(
            b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b'Content-Length: 100\r\n\r\n{"kind":'
        )
        answer = await asyncio.wait_for(reader.read(), SETTLE_TIMEOUT * 0.9)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"/problems/request-timeout"' in answer


async def test_a_304_and_a_head_have_no_body(http):
    job = (await http.post("/v1/jobs", json={"kind": "quarterdeck.echo"}, headers={"Prefer": "wait=10"})).json()
    path = f"/v1/jobs/{job['id']}"
    tag = (await http.get(path)).headers["ETag"]
    unchanged = await http.get(path, headers={"If-None-Match": tag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    headed = await http.head(path)
    assert (headed.status_code, headed.content) == (200, b"")
    assert int(headed.headers["Content-Length"]) > 0
    assert (await http.get("/livez")).status_code == 200


async def test_a_client_that_goes_away_is_waited_for_no_longer(port, http, runtime):
    job = (await http.post("/v1/jobs", json={"kind": "hold"})).json()
    async with connected(port) as (_, writer):
        writer.write(f"GET /v1/jobs/{job['id']} HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=60\r\n\r\n".encode())
        await eventually(lambda: runtime.engine.parts.waiters._expected)
    await eventually(lambda: not runtime.engine.parts.waiters._expected)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET http://evil.test/livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /livez HTTP/1.0\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    ],
    ids=["no host", "two hosts", "another target", "no host in 1.0", "another host", "too long"],
)
async def test_a_request_with_a_bad_head_is_refused(port, head):
    async with connected(port) as (reader, writer):
        writer.write(head)
        status = (await reader.readline()).split(b" ")[1]
    assert status in (b"400", b"421", b"431")
