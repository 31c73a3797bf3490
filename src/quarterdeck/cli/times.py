"""Durations on the command line: a plain number is one of seconds, as in the environment and in files."""

from __future__ import annotations

import math
from typing import Any

import click

from quarterdeck.domain.duration import parse_duration

FOREVER = "forever"


class Duration(click.ParamType[float | str]):
    """Seconds, or text such as `10s`, which goes to the service as it is: it says what it expects."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:  # noqa: ARG002
        """A number where it is one."""
        return _number_or_text(str(value))


class Wait(click.ParamType[float]):
    """How long to wait, in seconds."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds that are meant."""
        if value == FOREVER or isinstance(value, float):
            return math.inf if value == FOREVER else value
        try:
            return _seconds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class CommandWithWait(click.Command):
    """Lets `--wait` stand before anything: only what is a time is its value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As of any command."""
        options = args[: args.index("--")] if "--" in args else args
        at = options.index("--wait") if "--wait" in options else None
        if at is not None:
            following = args[at + 1 : at + 2]
            seconds = following[0] if following and _is_time(following[0]) else None
            args = [*args[:at], f"--wait={seconds or FOREVER}", *args[at + 1 + (seconds is not None) :]]
        return super().parse_args(ctx, args)


def _is_time(text: str) -> bool:
    try:
        _seconds(text)
    except ValueError:
        return False
    return True


def _seconds(text: str) -> float:
    return parse_duration(_number_or_text(text))


def _number_or_text(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text
