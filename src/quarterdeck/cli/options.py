"""Options and arguments that several commands have."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from quarterdeck.cli import suggestions
from quarterdeck.cli.destination import DEFAULT_URL, Destination

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
config_option = click.option(
    "--config", "file", type=click.Path(path_type=Path), help="Settings file [default: quarterdeck.toml]."
)
data_dir_option = click.option(
    "--data-dir",
    metavar="DIR",
    type=click.Path(file_okay=False, readable=False),
    help="Directory of the embedded server's files [default: .quarterdeck].",
)
database_url_option = click.option(
    "--database-url",
    metavar="URL",
    help="PostgreSQL URL, or `embedded` [default: embedded]. One with a password belongs in the environment.",
)


def client_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the options `--url` and `--api-key`; it gets them as `service`, a Destination."""

    @functools.wraps(command)
    def called(*, url: str | None, api_key: str | None, **others: Any) -> Any:
        return command(service=Destination.of(url, api_key), **others)

    url = click.option("--url", metavar="URL", help=f"The service [env: QUARTERDECK_URL; default: {DEFAULT_URL}].")
    key = click.option(
        "--api-key",
        metavar="SECRET",
        help="Who you are to it [env: QUARTERDECK_API_KEY, which other users cannot see, or QUARTERDECK_API_KEY_FILE].",
    )
    return url(key(called))


def job_argument(*states: str) -> Callable[[F], F]:
    """The id of a job; a shell completes it with jobs in one of these states, or in any."""
    return click.argument("job_id", metavar="ID", shell_complete=suggestions.jobs_in(*states))


def examples(*lines: str) -> str:
    """The end of a command's help: command lines, with what they are good for behind a `#` where that is not plain."""
    split = [line.partition("#") for line in lines]
    width = max((len(command.rstrip()) for command, mark, _ in split if mark), default=0)
    shown = [f"  {command.rstrip():{width}}  {mark}{words}".rstrip() for command, mark, words in split]
    return "\n".join(("\b", "Examples:", *shown))
