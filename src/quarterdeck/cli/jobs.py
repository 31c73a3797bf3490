"""`qd jobs`: look at jobs, follow them, cancel them, run them again."""

from __future__ import annotations

from typing import Any

import click

from quarterdeck.cli import suggestions
from quarterdeck.cli.destination import Destination
from quarterdeck.cli.options import client_options, examples, job_argument, json_option
from quarterdeck.cli.output import hint, print_json
from quarterdeck.cli.watch import watch
from quarterdeck.domain.listing import DEFAULT_LIMIT, MAX_LIMIT
from quarterdeck.domain.state import State

MOST_JOBS = 10_000
"""Jobs that one `list` prints at most."""
MOST_PAGES = 1000
"""Pages that one `list` asks for at most: where little fits, many of them are empty."""

_COLUMNS = ("id", "state", "kind", "queue", "attempt", "priority", "created_at")
_DROPPABLE = ("priority", "attempt", "queue", "created_at")
_UNFINISHED = ("pending", "scheduled", "available", "running", "retryable")
_TO_RETRY = ("completed", "cancelled", "discarded", "retryable", "scheduled")


@click.group()
def jobs() -> None:
    """Look at jobs, follow them, cancel them, run them again."""


jobs.add_command(watch)


@jobs.command(
    "list",
    epilog=examples(
        "qd jobs list --state running",
        "qd jobs list --kind report --state discarded --state cancelled",
        "qd jobs list --queue mail --args '{\"customer\": 7}' --all --json",
    ),
)
@click.option("--state", multiple=True, type=click.Choice([state.value for state in State]), help="Jobs in this state.")
@click.option("--kind", shell_complete=suggestions.kinds, help="Jobs of this kind.")
@click.option("--queue", shell_complete=suggestions.queues, help="Jobs of this queue.")
@click.option("--tag", multiple=True, help="Jobs with this tag; may be given several times for all of them.")
@click.option("--workflow", "workflow_id", metavar="ID", help="Jobs of this workflow.")
@click.option("--created-after", metavar="TIME", help="Jobs created at this time or later, as 2026-01-31T12:00:00Z.")
@click.option("--created-before", metavar="TIME", help="Jobs created before this time.")
@click.option("--args", metavar="JSON", help="Jobs whose args contain this object; with --kind or --queue.")
@click.option(
    "--limit",
    type=click.IntRange(1, MOST_JOBS),
    default=DEFAULT_LIMIT,
    show_default=True,
    help="How many jobs at most.",
)
@click.option("--all", "everything", is_flag=True, help=f"As many as there are, up to {MOST_JOBS}.")
@click.option("--cursor", help="Go on after an earlier list: its `next`.")
@client_options
@json_option
def list_jobs(
    *, limit: int, everything: bool, cursor: str | None, service: Destination, as_json: bool, **filters: Any
) -> None:
    """List jobs, newest first. With several --state, jobs in any of them."""
    most = MOST_JOBS if everything else limit
    found: list[dict[str, Any]] = []
    with service.open() as api:
        for _ in range(MOST_PAGES):
            room = min(most - len(found), MAX_LIMIT)
            page = api.page("/v1/jobs", **filters, limit=room, cursor=cursor)
            found += page["items"]
            cursor = page["next"]
            if cursor is None or len(found) >= most:
                break
    if as_json:
        print_json({"items": found, "next": cursor})
        return
    from quarterdeck.cli.tables import show_table  # noqa: PLC0415 - slow

    show_table(_COLUMNS, (_row(job) for job in found), droppable=_DROPPABLE, empty="no such jobs")
    if cursor is not None:
        click.echo(f"there may be more: go on with --cursor {cursor}", err=True)


@jobs.command(epilog=examples("qd jobs show 0193b5c0-7a1e-7c3d-9f00-3b1a2c4d5e6f"))
@job_argument()
@client_options
@json_option
def show(*, job_id: str, service: Destination, as_json: bool) -> None:
    """Show a job as it is now.

    That is its state, times, progress, arguments, result, errors, and what it wrote last.
    """
    with service.open() as api:
        job = api.get(job_id)
        if as_json:
            print_json(job)
            return
        from quarterdeck.cli.job_view import LAST_NOTES, show_job, tell_what_next  # noqa: PLC0415 - slow

        logs, outputs = (api.notes(job_id, what, LAST_NOTES) for what in ("logs", "outputs"))
    show_job(job, logs, outputs)
    tell_what_next(job)


@jobs.command()
@job_argument(*_UNFINISHED)
@client_options
@json_option
def cancel(*, job_id: str, service: Destination, as_json: bool) -> None:
    """Cancel a job that waits, or ask one that runs to stop.

    A job that has ended stays as it is.
    """
    with service.open() as api:
        job = api.cancel(job_id)
    if as_json:
        print_json(job)
    elif job["state"] == "running":
        click.echo(f"{job['id']} runs and was asked to stop")
        hint(f"`qd jobs watch {job['id']}` tells when it has")
    else:
        click.echo(f"{job['id']} is {job['state']}")


@jobs.command()
@job_argument(*_TO_RETRY)
@client_options
@json_option
def retry(*, job_id: str, service: Destination, as_json: bool) -> None:
    """Run a job again that has ended, or a waiting one now.

    Those that wait are scheduled for later, or wait for their next attempt.
    """
    with service.open() as api:
        job = api.retry(job_id)
    if as_json:
        print_json(job)
    else:
        click.echo(f"{job['id']} is {job['state']}, generation {job['generation']}")
        hint(f"`qd jobs watch {job['id']}` follows it")


def _row(job: dict[str, Any]) -> tuple[object, ...]:
    state = f"{job['state']} ({job['state_reason']})" if job["state_reason"] else job["state"]
    attempt = f"{job['attempt']} of {job['max_attempts']}"
    return job["id"], state, job["kind"], job["queue"], attempt, job["priority"], job["created_at"]
