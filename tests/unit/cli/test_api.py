"""What the client commands make of the answers of a service: real sockets, canned answers."""

import json
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from quarterdeck.cli import exits
from quarterdeck.cli.destination import Destination
from quarterdeck.cli.exits import CommandError
from quarterdeck.cli.main import run
from tests.support.processes import free_port

KEY = "a-secret-of-some-length"
CERTIFICATE = Path(__file__).parents[2] / "data/tls/localhost.pem"
JOB = {"id": "some-id", "state": "running", "result": None}


def at(url=None, api_key=None):
    return Destination.of(url, api_key).open()


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
        status, document, *more = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in dict(*more).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = answer  # noqa: N815 (the names that the library calls)

    def log_message(self, *arguments):
        pass


@contextmanager
def serving(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def service():
    with serving(Canned()) as server:
        yield server


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("QUARTERDECK_URL", "QUARTERDECK_API_KEY", "QUARTERDECK_API_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def interrupted_at(service, monkeypatch):
    service.answers = [(202, JOB)]
    real = httpx.Client.request

    def interrupt(number):
        def request(*arguments, **options):
            if len(service.requests) == number:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        monkeypatch.setattr(httpx.Client, "request", request)
        return service.url

    return interrupt


def problem(status, **fields):
    return status, {"type": "/problems/x", "title": "A title", "status": status, **fields}


@pytest.mark.parametrize(
    ("option", "answers", "meaning"),
    [
        ("--wait", 0, "whether the job was submitted is not known"),
        ("--watch", 0, "whether the job was submitted is not known"),
        ("--wait", 1, "job some-id goes on"),
        ("--dry-run", 0, "nothing was submitted"),
    ],
)
def test_a_ctrl_c_at_any_moment_of_a_submission_says_what_it_means(interrupted_at, capsys, option, answers, meaning):
    assert run(["submit", "a.kind", option, "--url", interrupted_at(answers)]) == exits.INTERRUPTED
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", f"qd: interrupted; {meaning}\n")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (problem(404, detail="There is no such job"), "refused: There is no such job; is the id right? `qd jobs list`"),
        (problem(422), "refused: A title"),
        (
            problem(422, detail="It is wrong", errors=[{"pointer": "/args/a", "detail": "expected int"}]),
            "refused: It is wrong; /args/a: expected int",
        ),
        (problem(401, detail="No key"), "No key; give a key with --api-key or QUARTERDECK_API_KEY"),
        (problem(503, detail="The database cannot be reached"), "refused: The database cannot be reached"),
        ((200, b"<html>a page</html>"), "answers 200, but not as a Quarterdeck service"),
        ((200, {"state": "of another thing"}), "answers 200, but not as a Quarterdeck service"),
        ((422, {"title": "a\n", "errors": 7}), "refused: a"),
        ((200, [1]), "answers 200, but not as a Quarterdeck service"),
        ((500, b""), "answers 500, but not as a Quarterdeck service"),
        ((302, b""), "answers 302, but not as a Quarterdeck service"),
        ((307, b"", {"Location": "https://x.example/"}), "sends elsewhere, to https://x.example/: name"),
        ((502, b"<html>"), "answers 502: a proxy is there, and the service behind it is not"),
        (problem(422, type="/problems/unknown-kind"), "; `qd kinds` lists what it knows"),
        (problem(429, type="/problems/queue-full"), "max_depth"),
        ((*problem(429, type="/problems/later"), {"Retry-After": "7"}), "; try again in 7 s"),
        ((*problem(503, type="/problems/draining"), {"Retry-After": "2"}), "; try again in 2 s"),
        (problem(409, type="/problems/job-running"), "`qd jobs cancel` stops it"),
        (problem(409, type="/problems/job-waiting"), "`qd workers` tells"),
        (problem(403, type="/problems/forbidden"), "use a key that may do this"),
        (problem(421, type="/problems/misdirected"), "name it by localhost"),
        (problem(500, type="/problems/internal", error_id="abc"), "under abc"),
        (problem(404, detail="two\nlines \x1b[2J"), "refused: two lines \\x1b[2J"),
    ],
)
def test_what_is_no_job_is_a_refusal_in_words(service, answer, words):
    service.answers = [answer]
    with at(service.url) as api, pytest.raises(CommandError) as caught:
        api.get("some-id")
    assert words in caught.value.message
    assert service.url in caught.value.message
    assert caught.value.exit_code == exits.NO_SERVICE


@pytest.mark.parametrize(
    ("by_option", "words"),
    [(True, "it does not know the key of --api-key"), (False, "it does not know the key of QUARTERDECK_API_KEY")],
)
def test_a_key_that_is_not_known_is_told_from_none_and_never_shown(service, monkeypatch, by_option, words):
    service.answers = [problem(401, detail="no")]
    monkeypatch.setenv("QUARTERDECK_API_KEY", KEY)
    with at(service.url, KEY if by_option else None) as api, pytest.raises(CommandError) as caught:
        api.get("some-id")
    assert words in caught.value.message
    assert KEY not in caught.value.message


def test_a_url_that_ends_with_the_version_is_told_so(service):
    service.answers = [problem(404)]
    with at(f"{service.url}/v1") as api, pytest.raises(CommandError, match="leave /v1 out of the URL"):
        api.get("some-id")


def test_no_service_is_told_with_what_to_do():
    url = f"http://127.0.0.1:{free_port()}"
    with at(url) as api, pytest.raises(CommandError, match=r"no service can be reached at .*`qd serve`") as caught:
        api.get("some-id")
    assert caught.value.exit_code == exits.NO_SERVICE


@contextmanager
def saying(words):
    """The URL of a server that says this to whoever comes, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk():
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(words)
                        connection.shutdown(socket.SHUT_WR)
                        connection.recv(65536)

        thread = threading.Thread(target=talk)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("scheme", "said", "words"),
    [
        ("http", b"E\x00\x00\x00 a database\n\n", "does not answer in HTTP"),
        ("http", b"\x15\x03\x03\x00\x02\x02\x50", "does it want https"),
        ("https", b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not answer in TLS"),
    ],
)
def test_another_server_at_the_port_is_told_from_none(scheme, said, words):
    with (
        saying(said) as address,
        at(f"{scheme}://{address}") as api,
        pytest.raises(CommandError, match=words) as caught,
    ):
        api.get("some-id")
    assert caught.value.exit_code == exits.NO_SERVICE
    assert "\n" not in caught.value.message


def test_a_submit_whose_answer_was_lost_may_have_been_done():
    with saying(b"") as address, at(f"http://{address}") as api:
        with pytest.raises(CommandError, match="may have done what was asked"):
            api.submit({"kind": "k"})
        with pytest.raises(CommandError) as caught:
            api.get("some-id")
    assert "may have done" not in caught.value.message


def test_a_certificate_of_a_private_authority_is_taken_where_it_is_named(monkeypatch):
    server = Canned()
    server.answers = [(200, JOB)]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://localhost:{server.server_address[1]}"
    with serving(server):
        with at(url) as api, pytest.raises(CommandError, match=r"is not trusted .*SSL_CERT_FILE"):
            api.get("some-id")
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        with at(url) as api:
            assert api.get("some-id") == JOB


def test_a_proxy_of_the_machine_is_not_asked(service, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    service.answers = [(200, JOB)]
    with at(service.url) as api:
        assert api.get("some-id") == JOB


def test_url_and_key_come_from_the_environment_unless_they_are_given(service, monkeypatch):
    service.answers = [(200, JOB)]
    monkeypatch.setenv("QUARTERDECK_URL", service.url + "/")
    monkeypatch.setenv("QUARTERDECK_API_KEY", "of-the-environment")
    with at() as api:
        api.get("some-id")
    with at(api_key=KEY) as api:
        api.get("some-id")
    assert [headers["Authorization"] for _, _, headers, _ in service.requests] == [
        "Bearer of-the-environment",
        f"Bearer {KEY}",
    ]


def test_an_id_cannot_lead_to_another_route(service):
    service.answers = [(200, JOB)]
    with at(service.url) as api:
        api.get("../queues?x#y")
        api.cancel("a/b")
    assert [path for _, path, _, _ in service.requests] == ["/v1/jobs/..%2Fqueues%3Fx%23y", "/v1/jobs/a%2Fb/cancel"]


def test_a_wait_asks_again_until_the_job_has_ended(service):
    service.answers = [(200, JOB), problem(503, detail="it restarts"), (200, {**JOB, "state": "completed"})]
    with at(service.url) as api:
        assert api.wait("some-id")["state"] == "completed"
    assert [headers.get("Prefer") for _, _, headers, _ in service.requests] == ["wait=60"] * 3


def test_a_wait_ends_with_its_time(service):
    service.answers = [(200, JOB)]
    with at(service.url) as api:
        assert api.wait("some-id", 0) == JOB
        assert api.wait("some-id", 0.2) == JOB
    assert [headers.get("Prefer") for _, _, headers, _ in service.requests] == [None, "wait=1", None]


def test_a_wait_does_not_ask_again_where_it_was_refused(service):
    service.answers = [problem(404, detail="gone")]
    with at(service.url) as api, pytest.raises(CommandError, match="gone"):
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


def submitted(server, *options):
    assert run(["submit", "kind", "--url", server.url, *options]) == exits.DONE
    _, path, headers, body = server.requests[-1]
    document = json.loads(body)
    del document["kind"], document["args"]
    return path, headers, document


@pytest.mark.parametrize(
    ("options", "document"),
    [
        (["--unique"], {"unique": True}),
        (["--unique-key", "customer:{id}"], {"unique": {"key": "customer:{id}"}}),
        (["--metadata", '{"order": 7}'], {"metadata": {"order": 7}}),
        (["--run-at", "2026-01-31T12:00:00Z"], {"run_at": "2026-01-31T12:00:00Z"}),
        (["--timeout", "0"], {"timeout": 0.0}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_each_option_of_a_submit_becomes_a_field(service, options, document):
    service.answers = [(202, JOB)]
    assert submitted(service, *options)[2] == document


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is needed")
@pytest.mark.parametrize("options", [[], ["--json"], ["--wait"], ["--wait", "--json"]])
def test_a_full_disk_does_not_take_the_id_of_the_job_along(service, options):
    service.answers = [(202, JOB | {"state": "completed"})]
    command = [sys.executable, "-m", "quarterdeck", "submit", "kind", "--url", service.url, *options]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    words = "the output cannot be written: No space left on device; job some-id was submitted"
    assert (done.returncode, done.stderr) == (2, f"qd: {words}\n")


def test_an_empty_idempotency_key_goes_along_and_is_not_taken_for_none(service):
    service.answers = [(202, JOB)]
    _, headers, _ = submitted(service, "--idempotency-key", "")
    assert headers["Idempotency-Key"] == ""


def test_an_idempotency_key_goes_with_the_submit_and_a_replay_is_told(service, capsys):
    service.answers = [(202, JOB, {"Idempotent-Replayed": "true"})]
    path, headers, document = submitted(service, "--idempotency-key", "order-7")
    assert (path, headers["Idempotency-Key"], document) == ("/v1/jobs", "order-7", {})
    out, err = capsys.readouterr()
    assert (out, err) == ("some-id\n", "qd: the idempotency key was used before: job some-id was not submitted again\n")


def test_a_duplicate_is_told_beside_its_id(service, capsys):
    service.answers = [(200, JOB, {"Quarterdeck-Duplicate": "true"})]
    submitted(service, "--unique")
    out, err = capsys.readouterr()
    assert (out, err) == ("some-id\n", "qd: job some-id has the same unique key: nothing new was submitted\n")


def test_a_dry_run_shows_the_job_and_says_that_there_is_none(service, capsys):
    service.answers = [(200, {**JOB, "attempt": 0, "max_attempts": 5, "errors": []})]
    assert submitted(service, "--dry-run")[0] == "/v1/jobs?dry_run=1"
    out, err = capsys.readouterr()
    assert ["attempt", "0", "of", "5"] in [line.split() for line in out.splitlines()]
    assert "nothing was submitted" in err
    submitted(service, "--dry-run", "--json")
    assert json.loads(capsys.readouterr().out)["max_attempts"] == 5


def test_a_job_that_was_submitted_is_named_even_where_waiting_fails(service, capsys):
    service.answers = [(202, JOB), problem(404, detail="gone")]
    assert run(["submit", "kind", "--wait", "--url", service.url]) == exits.NO_SERVICE
    assert capsys.readouterr().err.startswith("qd: job some-id was submitted, but: ")


@pytest.mark.parametrize(("term", "told"), [("xterm", True), ("dumb", False)])
def test_who_waits_at_a_terminal_sees_for_what_and_the_result_stays_alone(service, capsys, monkeypatch, term, told):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", term)
    service.answers = [(202, JOB), (200, {**JOB, "state": "completed", "result": {"n": 1}})]
    assert run(["submit", "kind", "--wait", "--url", service.url]) == exits.DONE
    out, err = capsys.readouterr()
    assert json.loads(out) == {"n": 1}
    assert ("waiting for job some-id" in err) == told


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit", "echo", "word=\udcff"],
        ["submit", "\udcff"],
        ["submit", "echo", "--idempotency-key", "é"],
        ["jobs", "list", "--kind", "\udcff"],
    ],
    ids=ascii,
)
def test_what_no_request_can_hold_is_wrong_usage(service, arguments, capsys):
    assert run([*arguments, "--url", service.url]) == exits.WRONG_USAGE
    told = capsys.readouterr().err
    assert told == "qd: what was given holds characters that cannot be sent: a key is ASCII, and all else UTF-8\n"
    assert service.requests == []


def test_a_name_that_is_no_text_is_asked_for_as_it_is(service):
    service.answers = [(200, {"name": "?", "paused": True, "depth": {}})]
    assert run(["queues", "pause", "\udcff", "--url", service.url]) == exits.DONE
    assert [path for _, path, *_ in service.requests] == ["/v1/queues/%FF"]
