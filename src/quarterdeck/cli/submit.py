"""`qd submit`: submit a job, and wait for it where that is asked for."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from quarterdeck.cli import exits
from quarterdeck.cli.exits import CommandError
from quarterdeck.cli.options import client_options, json_option
from quarterdeck.cli.output import print_json, printable
from quarterdeck.domain.duration import parse_duration
from quarterdeck.domain.state import TERMINAL

if TYPE_CHECKING:
    from quarterdeck.cli.api import Api

_FOREVER = "forever"


class _Command(click.Command):
    """Lets `--wait` stand before anything: only what is a time is its value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = args[: args.index("--")] if "--" in args else args
        at = options.index("--wait") if "--wait" in options else None
        if at is not None:
            following = args[at + 1 : at + 2]
            seconds = following[0] if following and _is_time(following[0]) else None
            args = [*args[:at], f"--wait={seconds or _FOREVER}", *args[at + 1 + (seconds is not None) :]]
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
    """A plain number is one of seconds; other text goes to the service as it is, which says what it expects."""
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


class _Wait(click.ParamType[float]):
    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if value == _FOREVER or isinstance(value, float):
            return math.inf if value == _FOREVER else value
        try:
            return _seconds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Duration(click.ParamType[float | str]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:  # noqa: ARG002
        return _number_or_text(str(value))


@click.command(cls=_Command)
@click.argument("kind")
@click.argument("pairs", metavar="[KEY=VALUE]...", nargs=-1)
@click.option(
    "--args", "args_text", metavar="JSON", help="Arguments as a JSON object; @FILE reads a file, - the input."
)
@click.option("--queue", help="The queue to put it in.")
@click.option("--priority", type=int, help="0 to 9; lower runs first [default: 5].")
@click.option("--delay", type=_Duration(), help="Run it after this time: seconds, or 10s, 5m, 2h.")
@click.option("--ttl", type=_Duration(), help="Discard it if it has not started within this time.")
@click.option("--timeout", type=_Duration(), help="How long one attempt may take.")
@click.option("--max-attempts", type=int, help="How often it is tried.")
@click.option("--tag", "tags", multiple=True, help="A tag; may be given several times.")
@click.option(
    "--wait", type=_Wait(), metavar="[SECONDS]", help="Wait until it has ended, at most so long; print its result."
)
@click.option("--watch", is_flag=True, help="Follow it live until it has ended; with --json one event a line.")
@client_options
@json_option
def submit(
    *,
    kind: str,
    pairs: tuple[str, ...],
    args_text: str | None,
    wait: float | None,
    watch: bool,
    url: str | None,
    api_key: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Submit a job of KIND.

    A VALUE is JSON where it is JSON (`width=200`, `deep=true`, `list=[1,2]`), else text. Prints the job's id; with
    --wait its result, with --watch what happens to it. With either, exits with 1 where the job did not complete.
    """
    from quarterdeck.cli.api import Api  # noqa: PLC0415 - slow

    if watch and wait is not None:
        raise click.UsageError("Give either --wait or --watch.")

    given = {name: value for name, value in options.items() if value not in (None, ())}
    document = {"kind": kind, "args": {**_read_args(args_text), **_read_pairs(pairs)}, **given}
    with Api(url, api_key) as api:
        job = api.submit(document)
        if wait is not None:
            job = _followed(api, job, wait)
    if watch:
        return _watched(job["id"], url, api_key, as_json=as_json)
    if as_json:
        print_json(job)
    elif wait is None:
        click.echo(job["id"])
    elif job["state"] == "completed":
        print_json(job["result"])
    if wait is None:
        return exits.DONE
    return _judged(job, wait)


def _watched(job_id: str, url: str | None, api_key: str | None, *, as_json: bool) -> int:
    from quarterdeck.cli.follow import OUTLAST, follow  # noqa: PLC0415 - slow

    if not as_json:
        click.echo(job_id)
    try:
        return follow(url, api_key, job_id, as_json=as_json, patience=OUTLAST)
    except CommandError as error:
        if error.exit_code != exits.NO_SERVICE:
            raise
        raise _submitted_but(job_id, error) from None


def _followed(api: Api, job: dict[str, Any], wait: float) -> dict[str, Any]:
    try:
        return api.wait(job["id"], wait)
    except KeyboardInterrupt:
        raise CommandError(f"interrupted; job {job['id']} goes on", exits.INTERRUPTED) from None
    except CommandError as error:
        raise _submitted_but(job["id"], error) from None


def _submitted_but(job_id: str, error: CommandError) -> CommandError:
    return CommandError(f"job {job_id} was submitted, but: {error.message}", error.exit_code)


def _judged(job: dict[str, Any], wait: float) -> int:
    if job["state"] == "completed":
        return exits.DONE
    if job["state"] not in TERMINAL:
        advice = f"`qd jobs show {job['id']}` tells how it goes on"
        raise CommandError(f"job {job['id']} is {job['state']} after {wait:g} s: {advice}", exits.NO_SERVICE)
    why = [text for text in (job["state_reason"], job["state_detail"]) if text]
    why += [f"{error['type']}: {error['message']}" for error in job["errors"][-1:]]
    because = f": {printable(', '.join(why))}" if why else ""
    raise CommandError(f"job {job['id']} was {job['state']}{because}", exits.JOB_FAILED)


def _read_pairs(pairs: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{pair!r} is no key=value.")
        if name in found:
            raise click.UsageError(f"{name!r} is given twice.")
        found[name] = _json_or_text(text)
    return found


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text


def _read_args(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        found = json.loads(text, parse_constant=_refuse_constant)
    except OSError as error:
        raise click.UsageError(f"--args: {text[1:]!r} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--args is not JSON: {error}.") from None
    if not isinstance(found, dict):
        raise click.UsageError("--args must be a JSON object.")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
