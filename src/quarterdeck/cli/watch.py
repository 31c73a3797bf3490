"""`qd jobs watch`: follow a job live."""

from __future__ import annotations

import click

from quarterdeck.cli import exits
from quarterdeck.cli.destination import Destination
from quarterdeck.cli.options import client_options, examples, job_argument, json_option


@click.command(
    epilog=examples(
        "qd jobs watch 0193b5c0-7a1e-7c3d-9f00-3b1a2c4d5e6f",
        "qd jobs watch 0193b5c0-7a1e-7c3d-9f00-3b1a2c4d5e6f --json | jq .event",
    )
)
@job_argument()
@client_options
@json_option
def watch(*, job_id: str, service: Destination, as_json: bool) -> int:
    """Follow a job live, from its first event until it has ended.

    It shows changes of state, progress, log lines and outputs. With --json each event is one line. Exits with 1 where
    the job did not complete. Ctrl-C ends the watching, not the job.
    """
    from quarterdeck.cli.follow import follow  # noqa: PLC0415 - slow

    with exits.interrupted(f"job {job_id} goes on"):
        return follow(service, job_id, as_json=as_json)
