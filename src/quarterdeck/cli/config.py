"""`qd config`: what the settings are, and where each comes from."""

from pathlib import Path

import click
import msgspec

from quarterdeck.cli.options import json_option
from quarterdeck.cli.output import print_json
from quarterdeck.config import load, settings_table


@click.group()
def config() -> None:
    """Settings."""


@config.command()
@click.option("--config", "file", type=click.Path(path_type=Path), help="Settings file [default: quarterdeck.toml].")
@json_option
def show(*, file: Path | None, as_json: bool) -> None:
    """Show every setting as the service would use it, and where its value comes from."""
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
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
