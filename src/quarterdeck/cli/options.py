"""Options that several commands have."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

DEFAULT_URL = "http://127.0.0.1:8000"

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def client_options(command: F) -> F:
    """Gives a command the options `--url` and `--api-key`."""
    url = click.option("--url", help=f"The service [env: QUARTERDECK_URL; default: {DEFAULT_URL}].")
    key = click.option("--api-key", help="Who you are to the service [env: QUARTERDECK_API_KEY].")
    return url(key(command))
