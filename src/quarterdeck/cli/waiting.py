"""Waiting for a job that was just submitted, and telling how it has ended. Slow to import."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from quarterdeck.cli import exits
from quarterdeck.cli.api import Api
from quarterdeck.cli.exits import CommandError
from quarterdeck.cli.output import print_json
from quarterdeck.cli.reasons import not_completed
from quarterdeck.cli.tables import console
from quarterdeck.domain.state import TERMINAL


def wait_for(api: Api, job: dict[str, Any], seconds: float, *, as_json: bool) -> int:
    """Waits until the job has ended, at most `seconds`, and prints its result, or the whole job as JSON.

    Raises CommandError where it did not complete, or not in time.
    """
    job_id = job["id"]
    try:
        with _spinner(f"waiting for job {job_id}"):
            job = api.wait(job_id, seconds)
    except CommandError as error:
        raise exits.after_submit(job_id, error) from None
    if as_json:
        print_json(job)
    elif job["state"] == "completed":
        print_json(job["result"])
    return judge(job, seconds)


def judge(job: dict[str, Any], seconds: float) -> int:
    """The exit code of a job that completed. Raises CommandError for any other, with the reason."""
    if job["state"] == "completed":
        return exits.DONE
    if job["state"] not in TERMINAL:
        advice = f"`qd jobs show {job['id']}` tells how it goes on"
        raise CommandError(f"job {job['id']} is {job['state']} after {seconds:g} s: {advice}", exits.NO_SERVICE)
    raise not_completed(job["id"], job["state"], job, job["errors"][-1] if job["errors"] else None)


@contextmanager
def _spinner(words: str) -> Iterator[None]:
    """Shows that something is waited for where somebody looks: on standard error, for the result goes to a program."""
    screen = console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_interactive) as progress:
        progress.add_task(words, total=None)
        yield
