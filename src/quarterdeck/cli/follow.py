"""Following a job in the terminal: a line for each thing that happens, a bar where there is a screen, or JSON."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from quarterdeck.cli import advice, exits
from quarterdeck.cli.destination import Destination
from quarterdeck.cli.exits import CommandError
from quarterdeck.cli.output import printable, printable_line
from quarterdeck.cli.reasons import not_completed, reasons
from quarterdeck.cli.tables import console
from quarterdeck.client import Client, Event, QuarterdeckClientError, Unauthenticated, Unreachable
from quarterdeck.clock import rfc3339

OUTLAST = 30.0
"""Seconds that following goes on while the service is gone, as in a restart."""

JOBS = "/v1/jobs/"

Show = Callable[[Event], None]


def follow(service: Destination, job_id: str, *, as_json: bool, patience: float = 0.0) -> int:
    """Prints what happens to a job, from its first event to its end.

    Raises CommandError where the service cannot be reached within `patience` seconds or refuses, and where the job did
    not complete.
    """
    if not _is_id(job_id):
        words = f"there is no job {printable_line(job_id)}; {advice.next_step(service, 404, {}, path=JOBS)}"
        raise CommandError(words, exits.NO_SERVICE)
    try:
        last = asyncio.run(_followed(service, job_id, as_json=as_json, patience=patience))
    except ValueError as error:
        raise CommandError(exits.one_line(error), exits.WRONG_USAGE) from None
    except QuarterdeckClientError as error:
        raise CommandError(_refused(service, error), exits.NO_SERVICE) from None
    if last is not None and last.event == "job.completed":
        return exits.DONE
    if last is None:
        raise not_completed(job_id, "gone", {}, None)
    raise not_completed(job_id, last.event.removeprefix("job."), last.data, last.data.get("error"))


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _refused(service: Destination, error: QuarterdeckClientError) -> str:
    """What went wrong, and what may be done about it."""
    if isinstance(error, Unreachable) and isinstance(error.__context__, OSError):
        return advice.unreachable(service, error.__context__)
    status = error.status or (401 if isinstance(error, Unauthenticated) else 0)
    then = advice.next_step(service, status, error.problem, path=JOBS)
    if isinstance(error, Unreachable) and not then:
        then = advice.START_ONE
    return f"{printable_line(exits.one_line(error))}{f'; {then}' if then else ''}"


async def _followed(service: Destination, job_id: str, *, as_json: bool, patience: float) -> Event | None:
    """The last event."""
    last = None
    async with (
        Client(service.url, service.api_key, patience=patience, outlast=OUTLAST) as client,
        client.watch(job=job_id) as events,
    ):
        with _display(as_json=as_json) as show:
            async for event in events:
                last = event
                show(event)
    return last


def _display(*, as_json: bool) -> AbstractContextManager[Show]:
    if as_json:
        return nullcontext(_print_json)
    screen = console()
    return _bars(screen) if screen.is_interactive else nullcontext(lambda event: click.echo(line_of(event)))


@contextmanager
def _bars(screen: Console) -> Iterator[Show]:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[words]}"))
    with Progress(*columns, TimeElapsedColumn(), console=screen, transient=True) as progress:
        bar = progress.add_task("waits", total=None, words="")

        def show(event: Event) -> None:
            if event.event == "job.progress":
                now = event.data.get("progress") or {}
                words = printable(now.get("message") or "").replace("[", "\\[")  # of columns, the brackets are markup
                progress.update(bar, total=1.0, completed=now.get("fraction", 0.0), words=words)
                return
            if state := event.data.get("state"):
                progress.update(bar, description=printable(state))
            screen.print(Text(line_of(event)), soft_wrap=True)

        yield show


def line_of(event: Event) -> str:
    """An event on one line, for people: when, what, and what changed by it."""
    words: list[Any] = [rfc3339(event.at), event.event.removeprefix("job.")]
    data = event.data
    match event.event:
        case "job.progress":
            now = data.get("progress") or {}
            words += [f"{now.get('fraction', 0):.0%}", now.get("message") or ""]
        case "job.log":
            words += [str(data.get("level")), str(data.get("message"))]
        case "job.output":
            words += [data.get("output")]
        case _:
            words.append(", ".join(reasons(data, data.get("error"))))
            words += [data["result"]] if "result" in data else []
    return " ".join(part for part in (" ".join(printable(word).split("\n")) for word in words) if part)


def _print_json(event: Event) -> None:
    document = {**msgspec.structs.asdict(event), "job_id": str(event.job_id), "at": rfc3339(event.at)}
    if event.merged_from is None:
        del document["merged_from"]
    text = json.dumps({"type": "event", **document}, ensure_ascii=False, separators=(",", ":"))
    click.echo(text.encode(errors="backslashreplace"))  # of a lone surrogate, the escape that JSON knows
