"""A job for people: what it is, how it got there, and what went wrong. Slow to import."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from quarterdeck.cli.output import hint, printable, printable_line
from quarterdeck.cli.tables import STYLES, console
from quarterdeck.domain.state import TERMINAL

LAST_ERRORS = 3
"""Failed attempts that are shown; before them there may be many that say the same."""
LAST_NOTES = 10
"""Log lines, and outputs, that are shown."""
LONGEST_VALUE = 4000
"""Characters of args, metadata or a result that are shown."""

_Words = Callable[[Mapping[str, Any], Any], str | None]
_LEFT_OUT: tuple[object, ...] = (None, [], {})


def show_job(
    job: Mapping[str, Any], logs: Sequence[Mapping[str, Any]] = (), outputs: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Prints a job: one line a field that is set, the last failed attempts, and what it wrote last."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("job", Text(printable(job["id"]), overflow="fold"))
    for name in _FIELDS:
        if (words := _words(job, name)) is not None:
            style = STYLES.get(words, "") if name == "state" else ""
            table.add_row(name, Text(words, style=style, overflow="fold"))
    screen = console()
    screen.print(table)
    for line in (*_errors(job["errors"]), *_notes("log", logs), *_notes("output", outputs)):
        screen.print(Text(line), soft_wrap=True)


def _words(job: Mapping[str, Any], name: str) -> str | None:
    """A field as people read it; None where it says nothing."""
    value = job.get(name)
    if value in _LEFT_OUT and not (name == "result" and job["state"] == "completed"):
        return None
    text = _FIELDS[name](job, value)
    if text is None or len(text) <= LONGEST_VALUE:
        return text
    return f"{text[:LONGEST_VALUE]}… (--json has all of it)"


def _plain(_job: Mapping[str, Any], value: object) -> str | None:
    return printable(value)


def _unless(usual: object) -> _Words:
    return lambda _, value: None if value == usual else str(value)


def _attempt(job: Mapping[str, Any], value: object) -> str | None:
    return f"{value} of {job['max_attempts']}"


def _progress(_job: Mapping[str, Any], value: Mapping[str, Any]) -> str | None:
    return f"{value.get('fraction', 0):.0%} {printable_line(value.get('message') or '')}".rstrip()


def _run_at(job: Mapping[str, Any], value: object) -> str | None:
    return None if value == job.get("created_at") else printable(value)


def _after(start: str, words: str) -> _Words:
    """A moment, and how long it was after another one."""

    def said(job: Mapping[str, Any], value: str) -> str | None:
        try:
            seconds = (dt.datetime.fromisoformat(value) - dt.datetime.fromisoformat(job[start])).total_seconds()
        except (KeyError, TypeError, ValueError):
            return printable(value)
        return f"{value} ({seconds:.3f} s {words})" if seconds >= 0 else value

    return said


_FIELDS: Mapping[str, _Words] = {
    "kind": _plain,
    "queue": _plain,
    "state": _plain,
    "state_reason": _plain,
    "state_detail": _plain,
    "progress": _progress,
    "attempt": _attempt,
    "crashes": _unless(0),
    "generation": _unless(1),
    "priority": _plain,
    "timeout": lambda _, value: f"{value:g} s",
    "created_at": _plain,
    "run_at": _run_at,
    "expires_at": _plain,
    "attempted_at": _after("run_at", "after it was due"),
    "finalized_at": _after("attempted_at", "after its last start"),
    "worker": _plain,
    "tags": lambda _, value: ", ".join(map(printable_line, value)),
    "unique_key": _plain,
    "concurrency_key": _plain,
    "workflow_id": _plain,
    "cached_from": _plain,
    "metadata": _plain,
    "args": _plain,
    "result": _plain,
}
"""What is shown of a job, in this order."""


def _errors(errors: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if len(errors) > LAST_ERRORS:
        yield f"\n{len(errors) - LAST_ERRORS} earlier errors: --json has them"
    for error in errors[-LAST_ERRORS:]:
        summary = f"attempt {error['attempt']} failed at {error['at']}: {error['type']}: {error['message']}"
        yield f"\n{printable(summary)}"
        if error.get("traceback"):
            yield printable(str(error["traceback"])).rstrip("\n")


def _notes(what: str, notes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if notes:
        yield f"\n{what}{f' (the last {LAST_NOTES})' if len(notes) >= LAST_NOTES else ''}"
    for note in notes:
        said = f"{note['level']} {note['message']}" if what == "log" else note.get("data")
        yield f"  {note['at']} {printable_line(said)}"


def tell_what_next(job: Mapping[str, Any]) -> None:
    """Says, to people alone, what can be done about a job in its state."""
    if job["state_reason"] == "unroutable":
        hint(f"no live worker runs {printable_line(job['kind'])}: `qd workers` lists those that live")
    elif job["state"] not in TERMINAL:
        hint(f"`qd jobs watch {job['id']}` follows it")
    elif job["state"] != "completed":
        hint(f"`qd jobs retry {job['id']}` runs it again")
