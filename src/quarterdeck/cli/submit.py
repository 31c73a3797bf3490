"""`qd submit`: submit a job, and wait for it where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from quarterdeck.cli import exits, suggestions
from quarterdeck.cli.arguments import read_object, read_pairs
from quarterdeck.cli.destination import Destination
from quarterdeck.cli.exits import CommandError
from quarterdeck.cli.options import client_options, examples, json_option
from quarterdeck.cli.output import hint, outliving, print_json
from quarterdeck.cli.times import CommandWithWait, Duration, Wait

if TYPE_CHECKING:
    from quarterdeck.cli.api import Submitted


@click.command(
    cls=CommandWithWait,
    epilog=examples(
        "qd submit quarterdeck.echo greeting=hello --wait  # print its result",
        "qd submit resize url=https://example.com/a.png width=200 --watch  # follow it",
        "qd submit report month=2026-01 --delay 10m --tag nightly",
        "qd submit report --args @args.json --unique --dry-run  # only check it",
    ),
)
@click.argument("kind", shell_complete=suggestions.kinds)
@click.argument("pairs", metavar="[KEY=VALUE]...", nargs=-1)
@click.option(
    "--args", "args_text", metavar="JSON", help="Arguments as a JSON object; @FILE reads a file, - the input."
)
@click.option("--queue", shell_complete=suggestions.queues, help="The queue to put it in.")
@click.option("--priority", type=int, help="0 to 9; lower runs first [default: 5].")
@click.option("--delay", type=Duration(), help="Run it after this time: seconds, or 10s, 5m, 2h.")
@click.option("--run-at", metavar="TIME", help="Run it at this time, as 2026-01-31T12:00:00Z.")
@click.option("--ttl", type=Duration(), help="Discard it if it has not started within this time.")
@click.option("--timeout", type=Duration(), help="How long one attempt may take.")
@click.option("--max-attempts", type=int, help="How often it is tried.")
@click.option("--tag", "tags", multiple=True, help="A tag; may be given several times.")
@click.option("--metadata", metavar="JSON", help="Anything of yours, as a JSON object; @FILE and - as in --args.")
@click.option("--unique", is_flag=True, help="Only if no unfinished job has the same kind and arguments.")
@click.option("--unique-key", metavar="TEXT", help="Only if no unfinished job has this key, as customer:{customer_id}.")
@click.option("--idempotency-key", metavar="TEXT", help="However often this is repeated within a day, submit it once.")
@click.option("--dry-run", is_flag=True, help="Check everything, store nothing, and show the job as it would be.")
@click.option(
    "--wait", type=Wait(), metavar="[SECONDS]", help="Wait until it has ended, at most so long; print its result."
)
@click.option("--watch", is_flag=True, help="Follow it live until it has ended; with --json one event a line.")
@client_options
@json_option
def submit(
    *,
    kind: str,
    pairs: tuple[str, ...],
    args_text: str | None,
    metadata: str | None,
    unique: bool,
    unique_key: str | None,
    idempotency_key: str | None,
    dry_run: bool,
    wait: float | None,
    watch: bool,
    service: Destination,
    as_json: bool,
    **options: Any,
) -> int:
    """Submit a job of KIND, and print its id.

    A VALUE is JSON where it is JSON (width=200, deep=true, list=[1,2]), else text. KEY:=VALUE takes nothing but JSON:
    version:='"1.10"' is text that looks like a number.

    With --wait the result is printed, with --watch what happens. With either, the exit code is 1 where the job did not
    complete, and 3 where it has not ended in time.
    """
    if sum((watch, wait is not None, dry_run)) > 1:
        raise click.UsageError("Give either --wait or --watch, and with --dry-run neither.")
    args = {**read_object(args_text, "--args"), **read_pairs(pairs)}
    document = {"kind": kind, "args": args, **_given(options, metadata, unique=unique, unique_key=unique_key)}
    unsure = "nothing was submitted" if dry_run else "whether the job was submitted is not known"
    with exits.interrupted(unsure) as meaning:
        with service.open() as api:
            submitted = api.submit(document, dry_run=dry_run, idempotency_key=idempotency_key)
            job = submitted.job
            if dry_run:
                return _shown(job, as_json=as_json)
            meaning.words = f"job {job['id']} goes on"
            _tell_of_another(submitted)
            told = outliving(f"job {job['id']} was submitted")
            if wait is not None:
                from quarterdeck.cli.waiting import wait_for  # noqa: PLC0415 - slow

                with told:
                    return wait_for(api, job, wait, as_json=as_json)
        with told:
            return _watched(job["id"], service, as_json=as_json) if watch else _submitted(job, as_json=as_json)


def _given(options: Mapping[str, Any], metadata: str | None, *, unique: bool, unique_key: str | None) -> dict[str, Any]:
    """The options that were given, as fields of the body."""
    given = {name: value for name, value in options.items() if value not in (None, ())}
    if metadata is not None:
        given["metadata"] = read_object(metadata, "--metadata")
    if unique and unique_key is not None:
        raise click.UsageError("Give either --unique or --unique-key.")
    if unique or unique_key is not None:
        given["unique"] = True if unique_key is None else {"key": unique_key}
    return given


def _tell_of_another(submitted: Submitted) -> None:
    """Says where the job is one that was there before."""
    if submitted.duplicate:
        words = f"job {submitted.job['id']} has the same unique key: nothing new was submitted"
        click.echo(f"qd: {words}", err=True)
    if submitted.replayed:
        words = f"the idempotency key was used before: job {submitted.job['id']} was not submitted again"
        click.echo(f"qd: {words}", err=True)


def _shown(job: dict[str, Any], *, as_json: bool) -> int:
    if as_json:
        print_json(job)
    else:
        from quarterdeck.cli.job_view import show_job  # noqa: PLC0415 - slow

        show_job(job)
        click.echo("qd: it would be taken; nothing was submitted", err=True)
    return exits.DONE


def _submitted(job: dict[str, Any], *, as_json: bool) -> int:
    if as_json:
        print_json(job)
    else:
        click.echo(job["id"])
        hint(f"`qd jobs watch {job['id']}` follows it")
    return exits.DONE


def _watched(job_id: str, service: Destination, *, as_json: bool) -> int:
    from quarterdeck.cli.follow import OUTLAST, follow  # noqa: PLC0415 - slow

    if not as_json:
        click.echo(job_id)
    try:
        return follow(service, job_id, as_json=as_json, patience=OUTLAST)
    except CommandError as error:
        if error.exit_code != exits.NO_SERVICE:
            raise
        raise exits.after_submit(job_id, error) from None
