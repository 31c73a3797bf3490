"""`qd queues`: look at queues, pause them, change their settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from quarterdeck.cli.options import client_options, json_option
from quarterdeck.cli.output import print_json

_LATER = ("scheduled", "retryable", "pending")


@click.group()
def queues() -> None:
    """Queues, their depth and their settings."""


@queues.command("list")
@client_options
@json_option
def list_queues(*, url: str | None, api_key: str | None, as_json: bool) -> None:
    """List every queue that was set or has unfinished jobs."""
    from quarterdeck.cli.api import Api  # noqa: PLC0415 - slow

    with Api(url, api_key) as api:
        found = list(api.items("/v1/queues"))
    if as_json:
        print_json({"items": found, "next": None})
        return
    from quarterdeck.cli.tables import show_table  # noqa: PLC0415 - slow

    show_table(("queue", "available", "running", "later", "oldest", "ended/s", ""), [_row(queue) for queue in found])


@queues.command()
@click.argument("name")
@client_options
@json_option
def pause(*, name: str, url: str | None, api_key: str | None, as_json: bool) -> None:
    """Leave the jobs of the queue NAME alone: none is begun until it is resumed. Running ones go on."""
    _update(url, api_key, name, {"paused": True}, as_json=as_json)


@queues.command()
@click.argument("name")
@client_options
@json_option
def resume(*, name: str, url: str | None, api_key: str | None, as_json: bool) -> None:
    """Run the jobs of the queue NAME again."""
    _update(url, api_key, name, {"paused": False}, as_json=as_json)


@queues.command("set")
@click.argument("name")
@click.argument("pairs", metavar="SETTING=VALUE...", nargs=-1, required=True)
@client_options
@json_option
def set_settings(*, name: str, pairs: tuple[str, ...], url: str | None, api_key: str | None, as_json: bool) -> None:
    """Change settings of the queue NAME, as in `max_depth=1000 paused=true`; `null` goes back to the default."""
    _update(url, api_key, name, _settings(pairs), as_json=as_json)


def _update(url: str | None, api_key: str | None, name: str, settings: Mapping[str, Any], *, as_json: bool) -> None:
    from quarterdeck.cli.api import Api  # noqa: PLC0415 - slow

    with Api(url, api_key) as api:
        queue = api.update_queue(name, settings)
    if as_json:
        print_json(queue)
    else:
        said = [f"{setting}={json.dumps(queue[setting])}" for setting in settings if setting != "paused"]
        said += ["is paused" if queue["paused"] else "runs"] if "paused" in settings else []
        click.echo(f"{queue['name']} {', '.join(said)}")


def _settings(pairs: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        setting, equals, text = pair.partition("=")
        if not equals or not setting:
            raise click.UsageError(f"{pair!r} is no setting=value.")
        if setting in found:
            raise click.UsageError(f"{setting!r} is given twice.")
        found[setting] = _value(text)
    return found


def _value(text: str) -> Any:
    """Plain JSON values where they are that, and else text: a rate or a duration."""
    try:
        return json.loads(text, parse_constant=lambda _: text)
    except (ValueError, RecursionError):
        return text


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
