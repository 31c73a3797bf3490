"""Tables for people. Slow to import: only commands that print one do so."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from quarterdeck.cli.output import printable

WIDE = 500
"""Columns where nobody looks: a pipe or a file gets each row on one line, for `grep` and the like."""

_FIELDS = (
    *("kind", "queue", "state", "state_reason", "state_detail", "attempt", "priority", "timeout", "tags", "metadata"),
    *("created_at", "run_at", "expires_at", "attempted_at", "finalized_at", "worker", "progress", "args", "result"),
)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Prints a table; numbers stand to the right."""
    # What a row begins with names it, and is to be copied: it is never broken.
    first = Column(columns[0], no_wrap=True)
    table = Table(first, *columns[1:], title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(Text(printable(cell), justify="left" if isinstance(cell, str) else "right") for cell in row))
    _console().print(table)


def show_job(job: Mapping[str, Any]) -> None:
    """Prints a job, one line a field that is set, and then what went wrong in its attempts."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("job", Text(printable(job["id"])))
    for name in _FIELDS:
        value = f"{job['attempt']} of {job['max_attempts']}" if name == "attempt" else job.get(name)
        if value not in (None, [], {}):
            table.add_row(name, Text(printable(value)))
    console = _console()
    console.print(table)
    for error in job["errors"]:
        summary = f"attempt {error['attempt']} failed at {error['at']}: {error['type']}: {error['message']}"
        console.print(Text(printable(summary)), Text(printable(error.get("traceback") or "")), sep="\n")


def _console() -> Console:
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDE
    return console
