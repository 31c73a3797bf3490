"""`quarterdeck`, or `qd`: the command line.

What takes long to import (Quart, httpx, rich, the database driver) is imported inside the commands that use it, so
that `qd --help` and shell completion answer at once.
"""

import contextlib
import io
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import click

from quarterdeck.cli import exits
from quarterdeck.cli.completion import complete_variable, completion
from quarterdeck.cli.config import config
from quarterdeck.cli.demo import demo
from quarterdeck.cli.exits import CommandError
from quarterdeck.cli.groups import Program
from quarterdeck.cli.jobs import jobs
from quarterdeck.cli.kinds import kinds
from quarterdeck.cli.migrate import migrate
from quarterdeck.cli.options import examples
from quarterdeck.cli.output import OutputLost
from quarterdeck.cli.queues import queues
from quarterdeck.cli.serve import serve
from quarterdeck.cli.submit import submit
from quarterdeck.cli.workers import workers
from quarterdeck.config import ConfigError
from quarterdeck.version import __version__

SECTIONS = {
    "Run the service": (serve, demo, migrate, config),
    "Work with it": (submit, jobs, queues, kinds, workers),
    "This program": (completion,),
}


@click.group(
    cls=Program,
    sections={heading: [command.name for command in section] for heading, section in SECTIONS.items()},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "qd demo  # see it work, without setting anything up",
        "qd serve  # start a service; it brings its database",
        "qd submit quarterdeck.echo hello=world --wait  # in another terminal: run a job on it",
        "qd COMMAND --help  # what a command does, with examples",
    ),
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def commands() -> None:
    """Durable background jobs on Quart and PostgreSQL.

    Exit codes: 0 done, 1 the job failed, 2 wrong usage or setting, 3 the service cannot be reached or refused, 4 the
    database has another schema, 5 an inner loop died, 130 interrupted.
    """


for section in SECTIONS.values():
    for command in section:
        commands.add_command(command)


def main() -> NoReturn:
    """Runs the command line and ends the process with the exit code of the command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may not know all characters
    name = "quarterdeck" if Path(sys.argv[0]).stem == "quarterdeck" else "qd"
    try:
        code = run(sys.argv[1:], name)
    finally:
        # All is done and told. Python takes a moment to end, and a signal in it would be the end's exit code.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def run(arguments: list[str], name: str = "qd") -> int:
    """Runs one command and returns its exit code; whatever goes wrong is told on stderr, without a traceback."""
    with _hearing_again():
        try:
            code = commands.main(arguments, prog_name=name, standalone_mode=False, complete_var=complete_variable(name))
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a fault of ours is no more use to users as a traceback
            exits.hear_no_more()
            if isinstance(error, OutputLost):
                error.drop()
                if error.unread:  # who reads has seen enough
                    return exits.DONE
            message, code = _explained(error, name)
            with contextlib.suppress(OSError):
                if code == exits.INTERRUPTED and sys.stderr.isatty():
                    click.echo(err=True)  # the terminal has written ^C
                click.echo(message, err=True)
        return code if isinstance(code, int) else exits.DONE


@contextlib.contextmanager
def _hearing_again() -> Iterator[None]:
    """Afterwards a Ctrl-C is heard as before."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError, TypeError):  # outside of the main thread; a handler that is not Python's
            signal.signal(signal.SIGINT, before)


def _explained(error: BaseException, name: str) -> tuple[str, int]:
    """What ended a command, as it is told, and its exit code."""
    match error:
        case click.exceptions.NoArgsIsHelpError():
            return error.format_message(), exits.WRONG_USAGE
        case click.UsageError():
            place = error.ctx.command_path if error.ctx else name
            message = " ".join(error.format_message().split())  # some list what may be chosen, a line each
            words, code = f"{message}{_misplaced(error)} See `{place} --help`.", exits.WRONG_USAGE
        case click.ClickException():
            words, code = error.format_message(), exits.WRONG_USAGE
        case ConfigError():
            words, code = str(error), exits.WRONG_USAGE
        case OutputLost():
            words, code = f"the output cannot be written: {error}", exits.WRONG_USAGE
        case CommandError():
            words, code = error.message, error.exit_code
        case click.Abort() | KeyboardInterrupt():
            words, code = "interrupted", exits.INTERRUPTED
        case _:
            fault = f"{type(error).__name__}: {exits.one_line(error)}"
            words, code = f"this is a fault of {name}, please report it: {fault}", exits.LOOP_DIED
    return f"{name}: {words}", code


def _misplaced(error: click.UsageError) -> str:
    """Where an option belongs that every command has and a group has not."""
    is_group = error.ctx is not None and isinstance(error.ctx.command, click.Group)
    if is_group and isinstance(error, click.NoSuchOption) and error.option_name in ("--url", "--api-key", "--json"):
        return " It belongs behind the command."
    return ""
