"""What commands print, made fit for programs or for a terminal."""

import json

import click

# Text from jobs must not command the terminal.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def print_json(value: object) -> None:
    """Prints a JSON document, also one whose strings UTF-8 cannot hold."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    click.echo(text.encode(errors="backslashreplace"))  # of a lone surrogate, the escape that JSON knows


def printable(value: object) -> str:
    """A value for a person: text as it is, anything else as JSON, nothing that a terminal would obey."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.translate(_CONTROL).encode(errors="backslashreplace").decode()
