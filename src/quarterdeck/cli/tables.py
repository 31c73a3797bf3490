"""Tables for people. Slow to import: only commands that print one do so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from quarterdeck.cli.output import OutputLost, printable

WIDE = 500
"""Columns where nobody looks: a pipe or a file gets each row on one line, for `grep` and the like."""

NARROW = 7
"""Columns that a cell needs at least, with what is between it and the next."""

STYLES = {
    "completed": "green",
    "discarded": "red",
    "cancelled": "yellow",
    "retryable": "yellow",
    "running": "cyan",
    "paused": "yellow",
    "full": "red",
}
"""Colours of the words that a cell begins with."""


class _Console(Console):
    """Nothing in what it prints is markup; and it tells when nobody reads it, where rich would end the program."""

    def on_broken_pipe(self) -> None:
        """Raises OutputLost."""
        raise OutputLost.unread_by_anyone()


def console(*, stderr: bool = False) -> Console:
    """A console for people. Colours follow NO_COLOR; where nobody looks it is as wide as any table of ours."""
    made = _Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = WIDE
    return made


def show_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    droppable: Sequence[str] = (),
    empty: str = "",
) -> None:
    """Prints a table; numbers stand to the right.

    On a narrow terminal the columns of `droppable` are left out one by one until the others fit. Where there are no
    rows, `empty` says so on standard error.
    """
    shown, cells = list(columns), [list(row) for row in rows]
    if not cells and empty:
        click.echo(empty, err=True)
        return
    screen = console()
    left_out: list[str] = []
    table = _table(shown, cells, title)
    for name in droppable:
        if not screen.is_terminal or _width(screen, table) <= screen.width:
            break
        at = shown.index(name)
        left_out.append(shown.pop(at))
        for row in cells:
            del row[at]
        table = _table(shown, cells, title)
    if not screen.is_terminal:
        screen.width = max(WIDE, _width(screen, table))
    elif screen.width < _width(screen, _table(shown[:1], [row[:1] for row in cells], None)) + NARROW * (len(shown) - 1):
        # The terminal breaks the lines: rich would cut what a row begins with, and without a word.
        screen.width = max(screen.width, _measured(screen, table).minimum)
    screen.print(table)
    if left_out:
        click.echo(f"left out for want of room: {', '.join(left_out)}; --json has everything", err=True)


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None) -> Table:
    # What a row begins with names it, and is to be copied: it is never broken. Nothing is cut.
    made = [Column(name, no_wrap=not at, overflow="fold") for at, name in enumerate(columns)]
    for at, column in enumerate(made):
        column.justify = "left" if any(isinstance(row[at], str) for row in rows) else "right"
    table = Table(*made, title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _cell(value: object) -> Text:
    text = printable(value)
    word = text.split(maxsplit=1)[0].rstrip(",") if isinstance(value, str) and text.strip() else ""
    return Text(text, style=STYLES.get(word, ""), justify="left" if isinstance(value, str) else "right")


def _width(screen: Console, table: Table) -> int:
    """How many columns it takes where no cell is broken."""
    return _measured(screen, table).maximum


def _measured(screen: Console, table: Table) -> Measurement:
    return Measurement.get(screen, screen.options.update(max_width=1_000_000), table)
