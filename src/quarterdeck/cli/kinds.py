"""`qd kinds`: what can be submitted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from quarterdeck.cli.destination import Destination
from quarterdeck.cli.options import client_options, json_option
from quarterdeck.cli.output import print_json, printable_line


@click.command()
@client_options
@json_option
def kinds(*, service: Destination, as_json: bool) -> None:
    """List the kinds of jobs that can be submitted.

    Each with its arguments, and how many live workers run it.
    Arguments in brackets may be left out. A kind without a live worker can be submitted; its jobs wait for one.
    """
    with service.open() as api:
        found = list(api.items("/v1/kinds"))
    if as_json:
        print_json({"items": found, "next": None})
        return
    from quarterdeck.cli.tables import show_table  # noqa: PLC0415 - slow

    show_table(
        ("kind", "arguments", "live", "queue"),
        [
            (kind["name"], " ".join(_arguments(kind["schema"])), kind["live"], kind["defaults"]["queue"])
            for kind in found
        ],
        droppable=("queue",),
        empty="no kinds yet: `qd serve module:attribute` brings handlers",
    )


def _arguments(schema: Mapping[str, Any]) -> Iterator[str]:
    """The names of the arguments, as far as the schema has them; `…` for any others."""
    required = schema.get("required", ())
    for name in schema.get("properties", {}):
        yield printable_line(name if name in required else f"[{name}]")
    if schema.get("additionalProperties", True) is not False:
        yield "…"
