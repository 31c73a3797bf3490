"""What is given as `key=value`, or as a JSON object."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click


def read_pairs(pairs: Sequence[str], what: str = "key=value") -> dict[str, Any]:
    """`key=value`, where the value is JSON if it is JSON, else text; and `key:=value`, where it has to be JSON.

    Raises UsageError.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        strict = name.endswith(":")
        name = name.removesuffix(":")
        if not equals or not name:
            raise click.UsageError(f"{pair!r} is no {what}.")
        if name in found:
            raise click.UsageError(f"{name!r} is given twice.")
        found[name] = (_json if strict else _json_or_text)(text, f"the value of {name!r}")
    return found


def read_object(text: str | None, option: str) -> dict[str, Any]:
    """The JSON object that an option gives: itself, in a file as `@FILE`, or on the standard input as `-`.

    Raises UsageError.
    """
    if text is None:
        return {}
    try:
        if text == "-":
            text = sys.stdin.read() if sys.stdin is not None else ""  # whoever started us has closed it
        elif text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{option}: {text[1:]!r} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise click.UsageError(f"{option} is not JSON: {error}.") from None
    found = _json(text, option)
    if not isinstance(found, dict):
        raise click.UsageError(f"{option} must be a JSON object.")
    return found


class _Refused(ValueError):
    """It is JSON, and would not arrive as it was written."""


def _json(text: str, what: str) -> Any:
    try:
        return _decoded(text, what)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{what} is not JSON: {error}.") from None


def _json_or_text(text: str, what: str) -> Any:
    try:
        return _decoded(text, what)
    except (ValueError, RecursionError):
        return text


def _decoded(text: str, what: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_float, object_pairs_hook=_object)
    except _Refused as error:
        raise click.UsageError(f"{what}: {error}.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _Refused(f"{text:.40} is too large a number")
    return number


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """The service refuses a key that stands twice, and never sees it once one of the two is gone."""
    found = dict(members)
    if len(found) < len(members):
        names = [name for name, _ in members]
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise _Refused(f"the key {twice!r} stands twice")
    return found
