"""`qd workers`: which processes live."""

from __future__ import annotations

import click

from quarterdeck.cli.destination import Destination
from quarterdeck.cli.options import client_options, json_option
from quarterdeck.cli.output import print_json


@click.command()
@client_options
@json_option
def workers(*, service: Destination, as_json: bool) -> None:
    """List live processes, what they run and how much of it."""
    with service.open() as api:
        found = list(api.items("/v1/workers"))
    if as_json:
        print_json({"items": found, "next": None})
        return
    from quarterdeck.cli.tables import show_table  # noqa: PLC0415 - slow

    show_table(
        ("worker", "role", "running", "kinds", "queues", "last heartbeat"),
        [
            (
                worker["id"],
                f"{worker['role']}, draining" if worker["draining"] else worker["role"],
                f"{worker['running']} of {worker['slots']}",
                len(worker["kinds"]),
                worker["queues"] or "all",
                worker["beat_at"],
            )
            for worker in found
        ],
        droppable=("last heartbeat", "kinds"),
        empty="no process lives: `qd serve` starts one",
    )
