"""`qd config`: what the settings are, and where each comes from."""

import shutil
from pathlib import Path

import click
import msgspec

from quarterdeck.cli.options import config_option, examples, json_option
from quarterdeck.cli.output import print_json
from quarterdeck.config import load, settings_table

NARROW = 72
"""Columns of a terminal below which the meanings of settings would stand there letter by letter."""


@click.group()
def config() -> None:
    """Look at the settings of the service."""


@config.command(
    epilog=examples(
        "qd config show",
        "QUARTERDECK_LEASE=30 qd config show --json | jq .lease",
    )
)
@config_option
@json_option
def show(*, file: Path | None, as_json: bool) -> None:
    """Show every setting, its value, and where that comes from.

    The values are those that the service would use here. Secrets are masked.
    """
    loaded = load(file=file)
    values = loaded.settings.masked()
    if as_json:
        print_json({name: {"value": values[name], "origin": origin} for name, origin in loaded.origin.items()})
        return
    from quarterdeck.cli.tables import show_table  # noqa: PLC0415 - slow

    show_table(
        ("setting", "value", "from", "meaning"),
        [
            (
                info.name,
                "" if values[info.name] is None else _text(values[info.name]),
                loaded.origin[info.name],
                info.description,
            )
            for info in settings_table()
        ],
        droppable=("meaning",) if shutil.get_terminal_size().columns < NARROW else (),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
