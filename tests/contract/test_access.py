"""Who may ask: keys where they are required, and this machine's own programs and pages where they are not."""

import asyncio

import pytest
from quart.testing.connections import WebsocketResponseError
from werkzeug.datastructures import Headers

from quarterdeck.bootstrap import Runtime
from quarterdeck.config import ConfigError, Settings
from quarterdeck.telemetry.requests import record_of
from quarterdeck.web.app import create_app
from tests.contract.client import Client
from tests.contract.test_interface import METHODS, NO_JOB, NOWHERE, ROUTES

SECRET = "correct-horse-battery"
OTHER = "another-long-secret"


@pytest.fixture
def with_keys(database_url, deck):
    settings = Settings(database_url=database_url, shutdown_grace=0, api_keys=f"ann:{SECRET},bob:{OTHER}")
    return create_app(Runtime(settings, deck))


async def test_a_key_opens_everything(with_keys):
    async with with_keys.test_app():
        client = Client(with_keys)
        for scheme, secret in [("Bearer", SECRET), ("bearer", OTHER)]:
            headers = {"Authorization": f"{scheme} {secret}"}
            assert (await client.submit("add", {"left": 1, "right": 2}, headers=headers)).status == 202
            assert (await client.get("/", **headers)).status == 200
            (await client.get("/nowhere", **headers)).problem(404, "not-found")


async def test_without_a_key_everything_but_the_probes_is_one_and_the_same_401(with_keys, subtests):
    client = Client(with_keys)
    bodies = set()
    for path in [*ROUTES, *NOWHERE]:
        for method in METHODS:
            if path in ("/livez", "/readyz"):
                continue
            with subtests.test(f"{method} {path}"):
                answer = await client.call(method, path, text=b"junk")
                answer.problem(401, "unauthenticated")
                assert answer.headers["WWW-Authenticate"] == 'Bearer realm="quarterdeck"'
                bodies.add(answer.body)
    for path in ("/livez", "/readyz"):
        for method in METHODS:
            with subtests.test(f"{method} {path}"):
                assert (await client.call(method, path)).status != 401
    for headers in [
        {"Authorization": SECRET},
        {"Authorization": f"Basic {SECRET}"},
        {"Authorization": f"Bearer {SECRET}x"},
        {"Authorization": f"Bearer {SECRET[:-1]}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {SECRET} {SECRET}"},
        {"Authorization": "Bearer ü"},
        {"X-Api-Key": SECRET},
        {"Authorization": f"Bearer {SECRET}x", "Host": "a..b"},
        {"X-HTTP-Method-Override": "GET", "X-Original-URL": "/livez"},
    ]:
        with subtests.test(str(headers)):
            answer = await client.call("GET", f"/v1/jobs/{NO_JOB}", headers=headers)
            answer.problem(401, "unauthenticated")
            bodies.add(answer.body)
    assert len(bodies) == 1


async def test_two_keys_in_one_request_are_none(with_keys):
    headers = Headers([("Authorization", f"Bearer {SECRET}"), ("Authorization", f"Bearer {SECRET}")])
    answer = await with_keys.test_client().get(f"/v1/jobs/{NO_JOB}", headers=headers)
    assert answer.status_code == 401


async def test_an_odd_host_is_a_421_even_with_a_key(with_keys, subtests):
    client = Client(with_keys)
    for host in ["a..b", "[::1", "a b", "x" * 300, "évil", "a/b", "user@localhost"]:
        with subtests.test(host):
            (await client.get("/", Host=host, Authorization=f"Bearer {SECRET}")).problem(421, "misdirected")
    assert (await client.get("/", Host="jobs.example.org", Authorization=f"Bearer {SECRET}")).status == 200


async def test_a_socket_needs_a_key_too(with_keys):
    headers = {"Authorization": "Bearer nobody's"}
    with pytest.raises(WebsocketResponseError) as refused:
        async with with_keys.test_client().websocket("/v1/live", headers=headers) as socket:
            await socket.receive()
    assert refused.value.response.status_code == 401


OWN_HOSTS = [
    "localhost",
    "LOCALHOST:8000",
    "localhost.",
    "127.0.0.1",
    "127.0.0.1:1",
    "127.8.9.1:8000",
    "[::1]",
    "[::1]:8000",
]
OTHER_HOSTS = [
    "evil.test",
    "localhost.evil.test",
    "evil.localhost.test",
    "127.0.0.1.evil.test",
    "127.0.0.1:8000@evil.test",
    "user@localhost",
    "10.0.0.1",
    "0.0.0.0",
    "[::2]",
    "[::1",
    "::1",
    "localhost:port",
    "localhost:",
    "local host",
    "localhost, evil.test",
    "2130706433",
    "",
]


async def test_without_keys_only_this_machines_names_are_served(settings, subtests):
    client = Client(create_app(Runtime(settings)))
    for path in ["/", "/livez", "/v1/nowhere"]:
        for host in OWN_HOSTS:
            with subtests.test(f"{host} {path}"):
                assert (await client.get(path, Host=host)).status in (200, 404)
        for host in OTHER_HOSTS:
            with subtests.test(f"{host} {path}"):
                answer = await client.get(path, Host=host)
                answer.problem(421, "misdirected")
                assert not host or host not in answer.body.decode()


async def test_two_hosts_are_none(settings):
    client = create_app(Runtime(settings)).test_client()
    answer = await client.get("/livez", headers=Headers([("Host", "localhost"), ("Host", "localhost")]))
    assert answer.status_code == 421


@pytest.mark.parametrize(
    ("bind", "host", "status"),
    [
        ("jobs.internal:80", "jobs.internal", 200),
        ("jobs.internal:80", "JOBS.internal:8080", 200),
        ("jobs.internal:80", "other.internal", 421),
        ("192.0.2.7:80", "192.0.2.7:80", 200),
        ("192.0.2.7:80", "192.0.2.8:80", 421),
        ("[2001:db8::7]:80", "[2001:DB8:0::7]", 200),
        ("0.0.0.0:80", "192.0.2.8:80", 200),
        ("[::]:80", "[2001:db8::9]:80", 200),
        ("0.0.0.0:80", "evil.test", 421),
    ],
)
async def test_where_serving_everybody_was_asked_for_the_bind_is_served(bind, host, status):
    client = Client(create_app(Runtime(Settings(bind=bind, auth="off"))))
    assert (await client.get("/livez", Host=host)).status == status


async def test_a_bind_that_others_reach_is_refused_without_keys():
    with pytest.raises(ConfigError, match="QUARTERDECK_API_KEYS"):
        create_app(Runtime(Settings(bind="0.0.0.0:8000")))


@pytest.mark.parametrize(
    ("server", "auth", "status"),
    [
        (("10.0.0.5", 80), None, 421),
        (("127.0.0.1", 80), None, 200),
        (("10.0.0.5", 80), "off", 200),
        (("::1", 80), None, 200),
    ],
)
async def test_an_application_that_another_server_bound_wider_does_not_serve_there(server, auth, status):
    client = create_app(Runtime(Settings(auth=auth))).test_client()
    answer = await client.get("/livez", headers={"Host": "localhost"}, scope_base={"server": server})
    assert answer.status_code == status


FOREIGN = [
    {"Origin": "http://evil.test"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Origin": "http://localhost.evil.test:8000"},
    {"Origin": "localhost:8000"},
    {"Origin": "http://[::1"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://localhost:8000", "Sec-Fetch-Site": "cross-site"},
]
OWN = [{}, {"Origin": "http://localhost:8000"}, {"Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"}]


async def test_without_keys_pages_of_other_origins_may_not_write(client, connection, subtests):
    body = {"kind": "add", "args": {"left": 1, "right": 2}}
    for headers in FOREIGN:
        with subtests.test(str(headers)):
            answer = await client.call("POST", "/v1/jobs", body=body, headers={"Host": "localhost:8000", **headers})
            answer.problem(403, "forbidden")
            assert (await client.get("/livez", Host="localhost:8000", **headers)).status == 200
    assert await connection.fetchval("select count(*) from quarterdeck.job") == 0
    for headers in OWN:
        with subtests.test(str(headers)):
            answer = await client.call("POST", "/v1/jobs", body=body, headers={"Host": "localhost:8000", **headers})
            assert answer.status == 202


async def test_two_origins_are_foreign(settings):
    own = ("Origin", "http://localhost:8000")
    client = create_app(Runtime(settings)).test_client()
    answer = await client.post("/v1/jobs", headers=Headers([("Host", "localhost:8000"), own, own]))
    assert answer.status_code == 403


async def test_with_a_key_the_origin_does_not_matter(with_keys):
    client = Client(with_keys)
    headers = {"Authorization": f"Bearer {SECRET}", "Origin": "http://evil.test"}
    assert (await client.call("POST", f"/v1/jobs/{NO_JOB}/cancel", headers=headers)).status == 503


@pytest.mark.parametrize(
    ("path", "given", "noted"),
    [
        (f"/v1/jobs/{NO_JOB}", f"Bearer {OTHER}", ("bob", "/v1/jobs/{id}", 503)),
        ("/nowhere", f"Bearer {SECRET}", ("ann", None, 404)),
        ("/livez", "", ("probe", "/livez", 200)),
        ("/livez", f"Bearer {SECRET}x", ("probe", "/livez", 200)),
        ("/v1/jobs", "Bearer wrong", (None, None, 401)),
    ],
)
async def test_what_the_log_needs_of_a_request_is_in_the_servers_own_scope(with_keys, path, given, noted):
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"authorization", given.encode())],
        "client": ("10.0.0.1", 5),
        "server": None,
        "extensions": {},
    }
    sent = []
    body = asyncio.Queue()
    body.put_nowait({"type": "http.request", "body": b"", "more_body": False})

    async def send(message):
        sent.append(message)

    await with_keys(scope, body.get, send)
    record = record_of(scope)
    assert (record.principal, record.route, record.status) == noted
    assert record.bytes == sum(len(message.get("body", b"")) for message in sent) > 0
    assert dict(sent[0]["headers"])[b"x-request-id"] == record.id.encode()
    assert SECRET not in repr(record)
    assert OTHER not in repr(record)
