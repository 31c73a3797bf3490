"""The program as a group of commands: its help has sections, and who reads its output may go."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from quarterdeck.cli import exits
from quarterdeck.cli.output import OutputLost

LONGEST_LINE = 62
"""Letters of the line that a list has of a command."""


class Program(click.Group):
    """The root of all commands. `sections` has their names by the heading that they stand under in the help."""

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str]], **others: Any) -> None:
        super().__init__(*args, **others)
        self.sections = sections

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Writes each section with its commands."""
        # Where there is less room it takes several lines.
        limit = max(LONGEST_LINE, formatter.width - 6 - max(map(len, self.commands)))
        for heading, names in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(limit)) for name in names])

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """As of any command. Raises OutputLost where the help cannot be written."""
        with exits.interrupted(), _output_may_be_lost():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """As of any command. Raises OutputLost where what it prints cannot be written."""
        with exits.interrupted(), _output_may_be_lost():
            return super().invoke(ctx)


@contextmanager
def _output_may_be_lost() -> Iterator[None]:
    """Tells that from other trouble: click would end the program with a code that says a job has failed."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.ENOSPC):
            raise OutputLost(error.errno) from None
        raise
