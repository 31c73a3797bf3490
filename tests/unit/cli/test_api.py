"""What the client commands make of the answers of a service: real sockets, canned answers."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from quarterdeck.cli import exits
from quarterdeck.cli.api import Api
from quarterdeck.cli.exits import CommandError
from quarterdeck.cli.main import run
from tests.support.processes import free_port

KEY = "a-secret-of-some-length"
JOB = {"id": "some-id", "state": "running", "result": None}


class Canned(ThreadingHTTPServer):
    """Gives its answers in turn, the last one for ever, and keeps the requests."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = []
        self.requests = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.server.requests.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
        status, document = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer  # noqa: N815 (the names that the library calls)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def service():
    server = Canned()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("QUARTERDECK_URL", "QUARTERDECK_API_KEY", "QUARTERDECK_API_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)


def problem(status, **fields):
    return status, {"type": "/problems/x", "title": "A title", "status": status, **fields}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (problem(404, detail="There is no such job"), "refused: There is no such job"),
        (problem(422), "refused: A title"),
        (
            problem(422, detail="It is wrong", errors=[{"pointer": "/args/a", "detail": "expected int"}]),
            "refused: It is wrong; /args/a: expected int",
        ),
        (problem(401, detail="No key"), "No key; give a key with --api-key or QUARTERDECK_API_KEY"),
        (problem(503, detail="The database cannot be reached"), "refused: The database cannot be reached"),
        ((200, b"<html>a page</html>"), "answers 200, but not as a Quarterdeck service"),
        ((200, [1]), "answers 200, but not as a Quarterdeck service"),
        ((500, b""), "answers 500, but not as a Quarterdeck service"),
        ((302, b""), "answers 302, but not as a Quarterdeck service"),
    ],
)
def test_what_is_no_job_is_a_refusal_in_words(service, answer, words):
    service.answers = [answer]
    with Api(service.url) as api, pytest.raises(CommandError) as caught:
        api.get("some-id")
    assert words in caught.value.message
    assert service.url in caught.value.message
    assert caught.value.exit_code == exits.NO_SERVICE


def test_no_service_is_told_with_what_to_do():
    url = f"http://127.0.0.1:{free_port()}"
    with Api(url) as api, pytest.raises(CommandError, match=r"no service can be reached at .*`qd serve`") as caught:
        api.get("some-id")
    assert caught.value.exit_code == exits.NO_SERVICE


def test_a_proxy_of_the_machine_is_not_asked(service, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    service.answers = [(200, JOB)]
    with Api(service.url) as api:
        assert api.get("some-id") == JOB


def test_url_and_key_come_from_the_environment_unless_they_are_given(service, monkeypatch):
    service.answers = [(200, JOB)]
    monkeypatch.setenv("QUARTERDECK_URL", service.url + "/")
    monkeypatch.setenv("QUARTERDECK_API_KEY", "of-the-environment")
    with Api() as api:
        api.get("some-id")
    with Api(api_key=KEY) as api:
        api.get("some-id")
    assert [headers["Authorization"] for _, _, headers, _ in service.requests] == [
        "Bearer of-the-environment",
        f"Bearer {KEY}",
    ]


def test_an_id_cannot_lead_to_another_route(service):
    service.answers = [(200, JOB)]
    with Api(service.url) as api:
        api.get("../queues?x#y")
        api.cancel("a/b")
    assert [path for _, path, _, _ in service.requests] == ["/v1/jobs/..%2Fqueues%3Fx%23y", "/v1/jobs/a%2Fb/cancel"]


def test_a_wait_asks_again_until_the_job_has_ended(service):
    service.answers = [(200, JOB), problem(503, detail="it restarts"), (200, {**JOB, "state": "completed"})]
    with Api(service.url) as api:
        assert api.wait("some-id")["state"] == "completed"
    assert [headers.get("Prefer") for _, _, headers, _ in service.requests] == ["wait=60"] * 3


def test_a_wait_ends_with_its_time(service):
    service.answers = [(200, JOB)]
    with Api(service.url) as api:
        assert api.wait("some-id", 0) == JOB
        assert api.wait("some-id", 0.2) == JOB
    assert [headers.get("Prefer") for _, _, headers, _ in service.requests] == [None, "wait=1", None]


def test_a_wait_does_not_ask_again_where_it_was_refused(service):
    service.answers = [problem(404, detail="gone")]
    with Api(service.url) as api, pytest.raises(CommandError, match="gone"):
        api.wait("some-id")
    assert len(service.requests) == 1


def test_submit_sends_what_was_given_and_nothing_else(service, capsys):
    service.answers = [(202, JOB)]
    options = ["--queue", "q", "--priority", "0", "--delay", "10s", "--ttl", "60", "--tag", "a", "--max-attempts", "2"]
    assert run(["submit", "kind", "n=1", "--args", '{"n": 0, "m": "x"}', "--url", service.url, *options]) == 0
    (method, path, headers, body), *rest = service.requests
    assert (method, path, rest) == ("POST", "/v1/jobs", [])
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == {
        "kind": "kind",
        "args": {"n": 1, "m": "x"},
        "queue": "q",
        "priority": 0,
        "delay": "10s",
        "ttl": 60.0,
        "tags": ["a"],
        "max_attempts": 2,
    }
    assert capsys.readouterr().out == "some-id\n"


def test_a_job_that_was_submitted_is_named_even_where_waiting_fails(service, capsys):
    service.answers = [(202, JOB), problem(404, detail="gone")]
    assert run(["submit", "kind", "--wait", "--url", service.url]) == exits.NO_SERVICE
    assert capsys.readouterr().err.startswith("qd: job some-id was submitted, but: ")
