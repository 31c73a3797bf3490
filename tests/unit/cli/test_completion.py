"""What a shell completes: commands and options, names and ids from the service, and never an error."""

import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from quarterdeck.cli import exits, suggestions
from quarterdeck.cli.completion import SHELLS
from quarterdeck.cli.main import run
from tests.support.processes import free_port, service_environment
from tests.unit.cli.test_api import no_environment, service  # noqa: F401 (fixtures)

KINDS = {"items": [{"name": name, "live": 1} for name in ("resize", "report", "send", "bad name", "$(boom)")]}
JOBS = {"items": [{"id": f"0193b5c0-0000-7000-8000-00000000000{n}", "state": "running", "kind": "k"} for n in "12"]}


@pytest.fixture
def completed(capsys, monkeypatch):
    """What a shell gets for a line, whose last word is the one that is being typed."""

    def complete(line, shell="bash", name="qd"):
        words = line.split(" ")
        monkeypatch.setenv(f"_{name.upper()}_COMPLETE", f"{shell}_complete")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words) - 1))
        with pytest.raises(SystemExit) as ended:
            run([], name)
        assert ended.value.code == 0
        out, err = capsys.readouterr()
        assert err == ""
        return [each.removeprefix("plain,") for each in out.splitlines() if each]

    return complete


@pytest.fixture
def at_service(service, monkeypatch):  # noqa: F811 (the fixture)
    """A service that the environment names."""
    monkeypatch.setenv("QUARTERDECK_URL", service.url)
    return service


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("qd j", ["jobs"]),
        ("qd jobs ", ["cancel", "list", "retry", "show", "watch"]),
        ("qd jobs list --st", ["--state"]),
        ("qd jobs list --state r", ["running", "retryable"]),
        ("qd jobs list --state=r", ["running", "retryable"]),
        ("qd serve --role w", ["web", "worker"]),
        ("qd completion ", list(SHELLS)),
        ("qd serve --data-dir .q", ["dir,.q"]),
        ("qd no such command", []),
    ],
)
def test_commands_options_and_choices_are_completed(line, expected, completed):
    assert sorted(completed(line)) == sorted(expected)


@pytest.mark.parametrize(
    ("line", "answer", "path", "expected"),
    [
        ("qd submit re", KINDS, "/v1/kinds?limit=200", ["resize", "report"]),
        ("qd submit ", KINDS, "/v1/kinds?limit=200", ["resize", "report", "send"]),
        ("qd jobs list --kind s", KINDS, "/v1/kinds?limit=200", ["send"]),
        ("qd queues pause ", {"items": [{"name": "mail"}]}, "/v1/queues?limit=200", ["mail"]),
        ("qd submit k --queue m", {"items": [{"name": "mail"}]}, "/v1/queues?limit=200", ["mail"]),
        ("qd jobs show ", JOBS, "/v1/jobs?limit=50", [job["id"] for job in JOBS["items"]]),
    ],
)
def test_names_and_ids_come_from_the_service(line, answer, path, expected, completed, at_service):  # noqa: PLR0917
    at_service.answers = [(200, answer)]
    assert completed(line) == expected
    assert [asked for _, asked, _, _ in at_service.requests] == [path]


def test_only_jobs_that_can_be_cancelled_are_offered_for_it(completed, at_service):
    at_service.answers = [(200, JOBS)]
    completed("qd jobs cancel ")
    ((_, path, _, _),) = at_service.requests
    assert "state=running" in path
    assert "state=completed" not in path


def test_the_url_and_key_that_were_typed_are_used(completed, service):  # noqa: F811
    service.answers = [(200, KINDS)]
    assert completed(f"qd submit --url {service.url} --api-key a-secret-of-some-length se") == ["send"]
    ((_, _, headers, _),) = service.requests
    assert headers["Authorization"] == "Bearer a-secret-of-some-length"


def test_zsh_and_fish_get_what_a_name_is_about(completed, at_service):
    at_service.answers = [(200, KINDS)]
    assert completed("qd submit se", "zsh") == ["plain", "send", "live workers: 1"]
    assert completed("qd submit se", "fish") == ["send\tlive workers: 1"]


@pytest.mark.parametrize("answer", [(200, b"<html>"), (200, {"items": 7}), (401, {}), (200, {"items": [1, {}]})])
def test_a_service_that_answers_otherwise_completes_nothing(answer, completed, at_service):
    at_service.answers = [answer]
    assert completed("qd submit ") == []


@pytest.mark.parametrize(
    "url", [f"http://127.0.0.1:{free_port()}", "nonsense", "http://x@y"], ids=["nobody", "no URL", "a name"]
)
def test_no_service_completes_nothing(url, completed, monkeypatch):
    monkeypatch.setenv("QUARTERDECK_URL", url)
    assert completed("qd submit ") == []


def drip(server, words, enough):
    """Answers whoever comes with these words, slowly, until it is enough."""
    with suppress(OSError):
        connection, _ = server.accept()
        with connection:
            for word in words:
                connection.sendall(word)
                if enough.wait(0.05):
                    break


@pytest.mark.parametrize("words", [[], [b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 90]], ids=["hanging up", "dripping"])
def test_a_service_that_takes_its_time_is_not_waited_for(words, completed, monkeypatch):
    monkeypatch.setattr(suggestions, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        enough = threading.Event()
        thread = threading.Thread(target=drip, args=(server, words, enough))
        thread.start()
        monkeypatch.setenv("QUARTERDECK_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        began = time.monotonic()
        assert completed("qd submit ") == []
        took = time.monotonic() - began
        enough.set()
        thread.join()
        assert took < 4, "what drips takes longer"


@pytest.mark.parametrize("name", ["qd", "quarterdeck"])
@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_one_for_the_name_that_was_called(shell, name, capsys):
    assert run(["completion", shell], name) == exits.DONE
    out, err = capsys.readouterr()
    assert f"_{name.upper()}_COMPLETE={shell}_complete" in out
    assert err == ""


@pytest.mark.parametrize("shell", ["csh", ""])
def test_another_shell_is_wrong_usage(shell, capsys):
    assert run(["completion", shell]) == exits.WRONG_USAGE
    assert "'bash', 'zsh', 'fish'" in capsys.readouterr().err


def typed(shell, script):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = f"{Path(sys.executable).parent}:{service_environment({})['PATH']}"
    settings = {"PATH": path, "QUARTERDECK_URL": "http://127.0.0.1:1"}
    return subprocess.run(
        [shell, "-c", script],
        env={**service_environment({}), **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_bash_completes_with_the_script():
    script = """
        eval "$(qd completion bash)"
        complete -p qd
        COMP_WORDS=(qd jobs wa) COMP_CWORD=2
        _qd_completion qd
        echo "${COMPREPLY[@]}"
        COMP_WORDS=(qd submit '') COMP_CWORD=2 COMPREPLY=()
        _qd_completion qd
        echo "nothing: ${COMPREPLY[@]}"
    """
    done = typed("bash", script)
    assert (done.stdout.splitlines(), done.stderr) == (
        ["complete -o nosort -F _qd_completion qd", "watch", "nothing: "],
        "",
    )


def test_zsh_takes_the_script():
    done = typed("zsh", 'autoload -U compinit; compinit -D; eval "$(qd completion zsh)"; echo ${_comps[qd]}')
    assert (done.stdout, done.stderr) == ("_qd_completion\n", "")


def test_fish_completes_with_the_script():
    done = typed("fish", "qd completion fish | source; complete -C 'qd jobs wa'")
    assert (done.stdout.split("\t")[0].strip(), done.stderr) == ("watch", "")
