"""What commands print, made fit for programs or for a terminal."""

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import click

# Text from jobs must not command the terminal.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


class OutputLost(Exception):
    """What a command prints cannot be written: nobody reads it any more, or the disk is full."""

    def __init__(self, number: int, words: str = "") -> None:
        """`words` say what happened all the same."""
        super().__init__("; ".join(filter(None, (os.strerror(number), words))))
        self.unread = number == errno.EPIPE

    @classmethod
    def unread_by_anyone(cls) -> Self:
        """Who has read it so far is gone."""
        return cls(errno.EPIPE)

    @staticmethod
    def drop() -> None:
        """Lets what was not written yet go nowhere, or Python would complain of it when it ends."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def outliving(words: str) -> Iterator[None]:
    """Has a full disk told together with `words`, which must not be lost with the output."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OutputLost(error.errno, words) from None


def print_json(value: object) -> None:
    """Prints a JSON document, also one whose strings UTF-8 cannot hold."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    click.echo(text.encode(errors="backslashreplace"))  # of a lone surrogate, the escape that JSON knows


def printable(value: object) -> str:
    """A value for a person: text as it is, anything else as JSON, nothing that a terminal would obey."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.translate(_CONTROL).encode(errors="backslashreplace").decode()


def printable_line(value: object) -> str:
    """The same on one line."""
    return " ".join(printable(value).split())


def hint(text: str) -> None:
    """Tells people, and no program, what they may do next."""
    if all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr)):
        click.secho(text, err=True, dim=not os.environ.get("NO_COLOR"))
