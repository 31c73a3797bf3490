"""`qd jobs watch`: follow a job live."""

import click

from quarterdeck.cli.options import client_options, json_option


@click.command()
@click.argument("job_id", metavar="ID")
@client_options
@json_option
def watch(*, job_id: str, url: str | None, api_key: str | None, as_json: bool) -> int:
    """Follow a job from its first event until it has ended: state changes, progress, log lines, outputs.

    With --json each event is one line. Exits with 1 where the job did not complete.
    """
    from quarterdeck.cli.follow import follow  # noqa: PLC0415 - slow

    return follow(url, api_key, job_id, as_json=as_json)
