"""What holds for every route, and for what is no route: methods, problems, headers, the front page."""

import asyncio
import re

import pytest
from quart.testing.connections import WebsocketResponseError

from quarterdeck import __version__
from quarterdeck.web.app import ENDPOINTS
from quarterdeck.web.gate import Gate

METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "FOO"]
NO_JOB = "0193b5c0-0000-7000-8000-000000000000"


def routes():
    """The methods of every path."""
    methods = {"/": {"GET"}}
    for each in ENDPOINTS:
        methods.setdefault(each.path, set()).add(each.method)
    return {
        re.sub(r"{\w+}", NO_JOB, path): sorted(allowed | {"OPTIONS"} | ({"HEAD"} if "GET" in allowed else set()))
        for path, allowed in methods.items()
    }


ROUTES = routes()


async def test_a_route_says_which_methods_it_has_and_refuses_the_others(client, subtests):
    assert ROUTES["/livez"] == ["GET", "HEAD", "OPTIONS"]
    for path, allowed in ROUTES.items():
        with subtests.test(f"OPTIONS {path}"):
            answer = await client.call("OPTIONS", path)
            assert (answer.status, answer.body) == (204, b"")
            assert answer.headers["Allow"] == ", ".join(allowed)
            assert "Content-Type" not in answer.headers
        for method in set(METHODS) - set(allowed):
            with subtests.test(f"{method} {path}"):
                answer = await client.call(method, path)
                answer.problem(405, "method-not-allowed")
                assert answer.headers["Allow"] == ", ".join(allowed)


async def test_a_head_is_answered_like_a_get(client):
    got, headed = await client.get("/livez"), await client.call("HEAD", "/livez")
    assert headed.status == 200
    assert headed.headers["Content-Length"] == got.headers["Content-Length"] == str(len(got.body))


NOWHERE = [
    "/v1",
    "/v1/",
    "/v2/jobs",
    "/v1/jobs/",
    f"/v1/jobs/{NO_JOB}/",
    f"/v1//jobs/{NO_JOB}",
    f"/v1/jobs/{NO_JOB}/results",
    "/v1/jobs;x",
    "/v1/../v1/jobs",
    "/static/style.css",
    "/livez/",
    "/favicon.ico",
    "/%00",
    "/%ff",
    "/ü",
]


async def test_what_is_no_route_is_a_404_problem(client, subtests):
    for path in NOWHERE:
        for method in METHODS:
            with subtests.test(f"{method} {path}"):
                (await client.call(method, path)).problem(404, "not-found")


async def test_a_socket_is_a_404_too(client):
    with pytest.raises(WebsocketResponseError) as refused:
        async with client.app.test_client().websocket("/v1/elsewhere") as socket:
            await socket.receive()
    assert refused.value.response.status_code == 404
    assert refused.value.response.headers["Content-Type"] == "application/problem+json"


EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}


async def test_every_answer_has_the_headers_of_safety(client, subtests):
    calls = [("GET", "/"), ("GET", "/livez"), ("GET", "/nowhere"), ("PUT", "/v1/jobs"), ("OPTIONS", "/v1/jobs")]
    for method, path in calls:
        with subtests.test(f"{method} {path}"):
            answer = await client.call(method, path)
            assert {name: answer.headers.get(name) for name in EVERYWHERE} == EVERYWHERE
            assert answer.headers["Cache-Control"] == "no-store"
            assert "Server" not in answer.headers
            assert re.fullmatch("[0-9a-f]{16}", answer.headers["X-Request-Id"])
    refused = await client.get("/", Host="evil.test")
    assert {name: refused.headers.get(name) for name in EVERYWHERE} == EVERYWHERE


@pytest.mark.parametrize(("given", "kept"), [("a-1.b:c_D", True), ("x" * 64, True), ("x" * 65, False), ("a b", False)])
async def test_a_request_id_of_the_caller_is_given_back(client, given, kept):
    answer = await client.get("/livez", X_Request_Id=given)
    assert (answer.headers["X-Request-Id"] == given) is kept


async def test_a_request_id_is_in_what_is_logged_meanwhile(client, runtime, monkeypatch, caplog):
    async def broken(*_args, **_options):
        raise RuntimeError("broken")

    monkeypatch.setattr(runtime.engine.jobs, "get", broken)
    await client.get(f"/v1/jobs/{NO_JOB}", X_Request_Id="request-7")
    assert any("request_id='request-7'" in record.getMessage() for record in caplog.records)


async def test_the_front_page_names_the_service_its_version_and_its_routes_and_loads_nothing(client):
    answer = await client.get("/")
    page = answer.body.decode()
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert f"Quarterdeck {__version__}" in page
    for each in ENDPOINTS:
        assert f"<td>{each.method}</td><td><code>{each.path}</code></td>" in page
    assert not re.search(r"(src|href|style)=|<script|<style|<link", page)


async def test_a_target_that_is_a_whole_url_is_taken_for_its_path_if_it_names_the_host(client, subtests):
    for target, status in {
        "http://localhost/livez": 200,
        "HTTP://LOCALHOST/livez": 200,
        "http://evil.test/livez": 400,
        "http://localhost@evil.test/livez": 400,
        "livez": 400,
        "*": 400,
        "": 400,
    }.items():
        with subtests.test(target):
            assert await status_of(client.app, target) == status


async def status_of(app, target):
    """The status of an answer to a request for a target that no client would send."""
    answered = []
    sent = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        return sent.pop() if sent else await asyncio.get_running_loop().create_future()

    async def send(message):
        answered.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": target,
        "raw_path": target.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": None,
        "server": None,
        "extensions": {},
    }
    await app(scope, receive, send)
    return answered[0]["status"]


async def test_a_failure_outside_every_route_is_a_problem_too(client):
    async def broken(scope, receive, send):
        raise RuntimeError("broken")

    gate = Gate(broken, client.app.asgi_app._access)
    assert await status_of(gate, "/livez") == 500
