"""`qd queues`: look at queues, pause them, change their settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from quarterdeck.cli import suggestions
from quarterdeck.cli.arguments import read_pairs
from quarterdeck.cli.destination import Destination
from quarterdeck.cli.options import client_options, examples, json_option
from quarterdeck.cli.output import print_json

_LATER = ("scheduled", "retryable", "pending")

_name_argument = click.argument("name", shell_complete=suggestions.queues)


@click.group()
def queues() -> None:
    """Look at queues, pause them, change their settings."""


@queues.command("list")
@client_options
@json_option
def list_queues(*, service: Destination, as_json: bool) -> None:
    """List every queue that was set or has unfinished jobs.

    Under `later` are jobs that are scheduled, wait for their next attempt, or wait for other jobs.
    """
    with service.open() as api:
        found = list(api.items("/v1/queues"))
    if as_json:
        print_json({"items": found, "next": None})
        return
    from quarterdeck.cli.tables import show_table  # noqa: PLC0415 - slow

    show_table(
        ("queue", "available", "running", "later", "oldest", "ended/s", ""),
        [_row(queue) for queue in found],
        droppable=("ended/s", "oldest"),
        empty="no queue has unfinished jobs or settings",
    )


@queues.command()
@_name_argument
@client_options
@json_option
def pause(*, name: str, service: Destination, as_json: bool) -> None:
    """Begin no more jobs of the queue NAME until it is resumed.

    Running ones go on, and new ones are taken.
    """
    _update(service, name, {"paused": True}, as_json=as_json)


@queues.command()
@_name_argument
@client_options
@json_option
def resume(*, name: str, service: Destination, as_json: bool) -> None:
    """Run the jobs of the queue NAME again."""
    _update(service, name, {"paused": False}, as_json=as_json)


@queues.command(
    "set",
    epilog=examples(
        "qd queues set images max_depth=1000  # refuse submits beyond so many unfinished jobs",
        "qd queues set images max_depth=null  # no limit, as by default",
    ),
)
@_name_argument
@click.argument("pairs", metavar="SETTING=VALUE...", nargs=-1, required=True)
@client_options
@json_option
def set_settings(*, name: str, pairs: tuple[str, ...], service: Destination, as_json: bool) -> None:
    """Change settings of the queue NAME: paused, max_depth. `null` goes back to the default."""
    _update(service, name, read_pairs(pairs, "setting=value"), as_json=as_json)


def _update(service: Destination, name: str, settings: Mapping[str, Any], *, as_json: bool) -> None:
    with service.open() as api:
        queue = api.update_queue(name, settings)
    if as_json:
        print_json(queue)
    else:
        said = [f"{setting}={json.dumps(queue[setting])}" for setting in settings if setting != "paused"]
        said += ["is paused" if queue["paused"] else "runs"] if "paused" in settings else []
        click.echo(f"{queue['name']} {', '.join(said)}")


def _row(queue: Mapping[str, Any]) -> list[object]:
    depth, oldest = queue["depth"], queue["oldest_available_age"]
    marks = ["paused"] if queue["paused"] else []
    if queue["max_depth"] is not None and sum(depth.values()) >= queue["max_depth"]:
        marks.append("full")
    return [
        queue["name"],
        depth["available"],
        depth["running"],
        sum(depth[state] for state in _LATER),
        "" if oldest is None else f"{oldest:.1f} s",
        queue["throughput"],
        ", ".join(marks),
    ]
