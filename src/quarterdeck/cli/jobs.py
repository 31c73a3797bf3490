"""`qd jobs`: look at jobs and cancel them."""

import click

from quarterdeck.cli.options import client_options, json_option
from quarterdeck.cli.output import print_json


@click.group()
def jobs() -> None:
    """Jobs that were submitted."""


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
