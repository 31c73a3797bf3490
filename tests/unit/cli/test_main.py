"""The command line as a whole: it answers fast, and errors are one line and an exit code."""

import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

import quarterdeck
from quarterdeck import __version__
from quarterdeck.cli import exits
from quarterdeck.cli.exits import CommandError
from quarterdeck.cli.main import commands, run
from quarterdeck.config import ConfigError

SLOW = ("quart", "hypercorn", "httpx", "rich", "asyncpg", "structlog", "uvloop")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["serve", "--help"], 0),
        (["submit", "-h"], 0),
        (["jobs"], 2),
        (["completion", "zsh"], 0),
        (["submit", "--nonsense"], 2),
    ],
)
def test_help_does_not_wait_for_what_is_slow_to_import(arguments, code):
    program = (
        "import sys; from quarterdeck.cli.main import run; code = run(sys.argv[1:]);"
        f"slow = [name for name in {SLOW!r} if name in sys.modules]; sys.exit(f'imported: {{slow}}' if slow else code)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "imported:" not in done.stderr


@pytest.mark.parametrize("group", [[], ["jobs"], ["migrate"], ["config"]])
def test_a_group_alone_lists_its_commands(group, capsys):
    assert run(group) == exits.WRONG_USAGE
    assert capsys.readouterr().err.startswith("Usage: qd")


def test_what_is_called_slow_is_imported_by_the_commands_themselves():
    program = f"import sys, quarterdeck.cli.service; print([name for name in {SLOW!r} if name not in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(eval(done.stdout)) <= {"httpx", "uvloop"}


def test_the_version_is_the_package_s(capsys):
    assert run(["--version"]) == exits.DONE
    assert capsys.readouterr().out == f"qd {__version__}\n"


def test_both_names_of_the_program_are_installed():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == dict.fromkeys(("quarterdeck", "qd"), "_quarterdeck_command:main")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["completion"], ["bash", "zsh", "fish", "`qd completion --help`"]),
        (["serv"], ["No such command 'serv'", "Did you mean 'serve'?", "`qd --help`"]),
        (["serve", "--bnd", "x"], ["--bnd", "Did you mean '--bind'?", "`qd serve --help`"]),
        (["submit"], ["KIND", "`qd submit --help`"]),
        (["submit", "k", "not-a-pair"], ["'not-a-pair' is no key=value"]),
        (["submit", "k", "a=1", "a=2"], ["'a' is given twice"]),
        (["submit", "k", "a:={"], ["the value of 'a' is not JSON"]),
        (["submit", "k", "--metadata", "[]"], ["--metadata must be a JSON object"]),
        (["submit", "k", "--wait", "--dry-run"], ["--wait", "--dry-run"]),
        (["submit", "k", "--unique", "--unique-key", "x"], ["either --unique or --unique-key"]),
        (["serve", "myapp"], ["app = 'myapp' (from argument APP)", "module:attribute"]),
        (["serve", "--role", "wep"], ["--role", "'wep'", "'web'"]),
        (["--url", "x", "jobs", "list"], ["No such option '--url'", "It belongs behind the command."]),
        (["jobs", "--json", "list"], ["No such option '--json'", "It belongs behind the command."]),
        (["job", "list"], ["No such command 'job'", "Did you mean 'jobs'?"]),
        (["jobs", "lst"], ["No such command 'lst'", "Did you mean", "'list'", "`qd jobs --help`"]),
        (["jobs", "list", "--sate", "x"], ["--sate", "--state"]),
        (["submit", "k", "--args", "[1]"], ["must be a JSON object"]),
        (["submit", "k", "--args", "{"], ["--args is not JSON"]),
        (["submit", "k", "--args", '{"a": NaN}'], ["--args is not JSON", "NaN"]),
        (["submit", "k", "--args", "@/does/not/exist"], ["/does/not/exist", "No such file"]),
        (["submit", "k", "--priority", "high"], ["--priority", "'high'"]),
        (["submit", "k", "--wait=soon"], ["--wait", "'soon' is not a duration"]),
        (["submit", "k", "--url", "ftp://x"], ["'ftp://x' is no URL of a service"]),
        (["submit", "k", "--url", "http://[::1"], ["is no URL"]),
        (["workers", "--url", "localhost:8000"], ["did you mean http://localhost:8000?"]),
        (["jobs", "show", "x", "--api-key", "ключ-ключ-ключ-ключ"], ["API key"]),
        (["config", "show", "--config", "/does/not/exist.toml"], ["/does/not/exist.toml", "cannot be read"]),
        (["migrate", "status", "--database-url", "mysql://x"], ["database_url", "postgresql://"]),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, words, capsys):
    assert run(arguments) == exits.WRONG_USAGE
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("qd: ")
    assert told.err.count("\n") == 1
    for word in words:
        assert word in told.err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (CommandError("no service", exits.NO_SERVICE), 3, "qd: no service\n"),
        (ConfigError("bad setting"), 2, "qd: bad setting\n"),
        (KeyboardInterrupt(), 130, "qd: interrupted\n"),
        (click.Abort(), 130, "qd: interrupted\n"),
        (ZeroDivisionError("by\nzero"), 5, "qd: this is a fault of qd, please report it: ZeroDivisionError: by zero\n"),
    ],
)
def test_every_way_to_fail_has_its_exit_code_and_no_traceback(error, code, line, capsys, monkeypatch):
    @click.command()
    def broken():
        raise error

    monkeypatch.setitem(commands.commands, "broken", broken)
    assert run(["broken"]) == code
    assert capsys.readouterr().err == line


def test_at_a_terminal_the_line_of_a_ctrl_c_is_a_line_of_its_own(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)  # which has written ^C
    monkeypatch.setitem(commands.commands, "broken", click.Command("broken", callback=interrupted))
    assert run(["broken"]) == exits.INTERRUPTED
    assert capsys.readouterr().err == "\nqd: interrupted\n"


def interrupted():
    raise KeyboardInterrupt


SLOW_IMPORT = """
import builtins, os, signal, sys
import _quarterdeck_command as command

def slow(name, *others, imported=builtins.__import__):
    if name.startswith("quarterdeck"):
        os.kill(os.getpid(), signal.SIGINT)
    return imported(name, *others)

builtins.__import__ = slow
{before}
sys.argv = ["qd", "--version"]
command.main()
"""


@pytest.mark.parametrize(
    ("before", "code", "out", "err"),
    [
        ("", exits.INTERRUPTED, "", "qd: interrupted\n"),
        ("signal.signal(signal.SIGINT, signal.SIG_IGN)", exits.DONE, f"qd {__version__}\n", ""),
    ],
)
def test_a_ctrl_c_while_the_program_is_imported_is_told_as_any_other(before, code, out, err):
    program = [sys.executable, "-c", SLOW_IMPORT.format(before=before)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, out, err)


IMPATIENT = """
import atexit, os, signal, sys
import click
import _quarterdeck_command as command
from quarterdeck.cli.main import commands

def press(number=signal.SIGINT):
    os.kill(os.getpid(), number)

def stop():
    raise SystemExit(0)  # as `qd serve` where it is stopped before it serves

def echo(*message, say=click.echo, **options):
    press()
    say(*message, **options)

if sys.argv[1] == "wait":
    click.echo = echo
atexit.register(press)
atexit.register(press, signal.SIGTERM)
commands.add_command(click.Command("stop", callback=stop))
commands.add_command(click.Command("wait", callback=press))
command.main()
"""


@pytest.mark.parametrize(
    ("argument", "code", "out", "err"),
    [
        ("wait", exits.INTERRUPTED, "", "qd: interrupted\n"),
        ("stop", exits.DONE, "", ""),
        ("--version", exits.DONE, f"qd {__version__}\n", ""),
    ],
)
def test_whoever_presses_ctrl_c_again_and_again_is_told_once_and_without_a_traceback(argument, code, out, err):
    program = [sys.executable, "-c", IMPATIENT, argument]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, out, err)


def test_before_it_listens_for_a_ctrl_c_the_program_imports_next_to_nothing():
    program = "import sys; sys.path.insert(0, sys.argv[1]); import _quarterdeck_command; print('typing' in sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", program, Path(quarterdeck.__file__).parents[1]]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_command_may_return_its_exit_code(monkeypatch):
    monkeypatch.setitem(commands.commands, "four", click.Command("four", callback=lambda: 4))
    assert run(["four"]) == 4


def test_the_exit_codes_are_those_of_the_contract():
    names = ("DONE", "JOB_FAILED", "WRONG_USAGE", "NO_SERVICE", "WRONG_SCHEMA", "LOOP_DIED", "INTERRUPTED")
    assert [getattr(exits, name) for name in names] == [0, 1, 2, 3, 4, 5, 130]


def test_every_reading_command_prints_json_where_that_is_asked_for():
    reading = ("jobs list", "jobs show", "jobs watch", "queues list", "workers", "kinds", "config show")
    reading += ("migrate status", "migrate verify", "submit", "jobs cancel", "jobs retry", "queues set")
    for path in reading:
        command = commands
        for name in path.split():
            command = command.commands[name]
        assert any("--json" in option.opts for option in command.params), path


def test_every_client_command_takes_a_url_and_a_key():
    def walk(command, path):
        yield path, command
        for name, below in getattr(command, "commands", {}).items():
            yield from walk(below, f"{path} {name}")

    clients = ("qd submit", "qd jobs ", "qd queues ", "qd workers", "qd kinds")
    found = [(path, command) for path, command in walk(commands, "qd") if path.startswith(clients)]
    assert len(found) == 12
    for path, command in found:
        options = {name for option in command.params for name in option.opts}
        assert {"--url", "--api-key", "--json"} <= options, path


def test_every_command_says_what_it_does():
    def walk(command, path):
        yield path, command
        for name, below in getattr(command, "commands", {}).items():
            yield from walk(below, f"{path} {name}")

    for path, command in walk(commands, "qd"):
        assert command.help, path
        assert all(option.help for option in command.params if isinstance(option, click.Option)), path
