"""`qd jobs`: look at jobs, follow them, cancel them, run them again."""

from __future__ import annotations

from typing import Any

import click

from quarterdeck.cli.options import client_options, json_option
from quarterdeck.cli.output import print_json
from quarterdeck.cli.watch import watch
from quarterdeck.domain.listing import DEFAULT_LIMIT, MAX_LIMIT
from quarterdeck.domain.state import State

MOST_JOBS = 10_000
"""Jobs that one `list` prints at most."""
MOST_PAGES = 1000
"""Pages that one `list` asks for at most: where little fits, many of them are empty."""

_COLUMNS = ("id", "state", "kind", "queue", "attempt", "priority", "created_at")


@click.group()
def jobs() -> None:
    """Jobs that were submitted."""


jobs.add_command(watch)


@jobs.command("list")
@click.option("--state", multiple=True, type=click.Choice([state.value for state in State]), help="Jobs in this state.")
@click.option("--kind", help="Jobs of this kind.")
@click.option("--queue", help="Jobs of this queue.")
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
    *,
    limit: int,
    everything: bool,
    cursor: str | None,
    url: str | None,
    api_key: str | None,
    as_json: bool,
    **filters: Any,
) -> None:
    """List jobs, newest first. With several --state, jobs in any of them."""
    from quarterdeck.cli.api import Api  # noqa: PLC0415 - slow
    from quarterdeck.cli.tables import show_table  # noqa: PLC0415 - slow

    most = MOST_JOBS if everything else limit
    found: list[dict[str, Any]] = []
    with Api(url, api_key) as api:
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
    show_table(_COLUMNS, (_row(job) for job in found))
    if cursor is not None:
        click.echo(f"there may be more: go on with --cursor {cursor}", err=True)


@jobs.command()
@click.argument("job_id", metavar="ID")
@client_options
@json_option
def show(*, job_id: str, url: str | None, api_key: str | None, as_json: bool) -> None:
    """Show a job as it is now."""
    from quarterdeck.cli.api import Api  # noqa: PLC0415 - slow
    from quarterdeck.cli.tables import show_job  # noqa: PLC0415 - slow

    with Api(url, api_key) as api:
        job = api.get(job_id)
    if as_json:
        print_json(job)
    else:
        show_job(job)


@jobs.command()
@click.argument("job_id", metavar="ID")
@client_options
@json_option
def cancel(*, job_id: str, url: str | None, api_key: str | None, as_json: bool) -> None:
    """Cancel a job that waits, or ask one that runs to stop. A job that has ended stays as it is."""
    from quarterdeck.cli.api import Api  # noqa: PLC0415 - slow

    with Api(url, api_key) as api:
        job = api.cancel(job_id)
    if as_json:
        print_json(job)
    elif job["state"] == "running":
        click.echo(f"{job['id']} runs and was asked to stop")
    else:
        click.echo(f"{job['id']} is {job['state']}")


@jobs.command()
@click.argument("job_id", metavar="ID")
@client_options
@json_option
def retry(*, job_id: str, url: str | None, api_key: str | None, as_json: bool) -> None:
    """Run a job that has ended again, or one that is scheduled or waits for its next attempt now."""
    from quarterdeck.cli.api import Api  # noqa: PLC0415 - slow

    with Api(url, api_key) as api:
        job = api.retry(job_id)
    if as_json:
        print_json(job)
    else:
        click.echo(f"{job['id']} is {job['state']}, generation {job['generation']}")


def _row(job: dict[str, Any]) -> tuple[object, ...]:
    state = f"{job['state']} ({job['state_reason']})" if job["state_reason"] else job["state"]
    attempt = f"{job['attempt']} of {job['max_attempts']}"
    return job["id"], state, job["kind"], job["queue"], attempt, job["priority"], job["created_at"]
