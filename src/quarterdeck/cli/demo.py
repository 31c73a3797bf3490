"""`qd demo`: the service at work, from nothing, in one command."""

import asyncio
from typing import Any

import click

from quarterdeck.cli import exits
from quarterdeck.cli.exits import CommandError
from quarterdeck.cli.options import json_option
from quarterdeck.cli.output import print_json

SAMPLE = 8
"""Files that are shown one by one."""


@click.command(short_help="See it work: real jobs on a database of its own.")
@click.option("--keep", is_flag=True, help="Leave the service running.")
@json_option
def demo(*, keep: bool, as_json: bool) -> None:
    """Run real work: a service with an embedded database of its own counts and checks the files of this program.

    It also calls the pages of a small web server that the demo starts, some of which are busy at first.

    The database stays in .quarterdeck/demo, so that the next run is faster.
    """
    from quarterdeck.cli.demo_run import demonstrate  # noqa: PLC0415 - slow
    from quarterdeck.cli.demo_service import demo_directory  # noqa: PLC0415 - slow

    try:
        with demo_directory(keep=keep) as directory:
            report = asyncio.run(demonstrate(directory, keep=keep, quiet=as_json))
    except asyncio.CancelledError:  # by a TERM
        raise CommandError("interrupted", exits.INTERRUPTED) from None
    if as_json:
        print_json(report)
    else:
        _show(report)
    if report["checks"]["different"]:
        raise CommandError(f"wrong checksums: {', '.join(report['checks']['different'])}", exits.JOB_FAILED)
    if report["pages"]["wrong"]:
        raise CommandError(f"wrong pages: {', '.join(report['pages']['wrong'])}", exits.JOB_FAILED)


def _show(report: dict[str, Any]) -> None:
    from quarterdeck.cli.tables import show_table  # noqa: PLC0415 - slow

    words = sum(one["words"] for one in report["files"])
    largest = sorted(report["files"], key=lambda file: -file["bytes"])[:SAMPLE]
    show_table(
        ("file", "lines", "words", "bytes", "sha256"),
        [(one["path"], one["lines"], one["words"], one["bytes"], one["sha256"][:16] + "…") for one in largest],
        title=f"The largest of {len(report['files'])} files, {words:,} words in all",
    )
    show_table(
        ("kind", "jobs", "p50 ms", "p95 ms"),
        [(kind, facts["jobs"], facts["p50_ms"], facts["p95_ms"]) for kind, facts in report["kinds"].items()],
        title="From submit over REST to the live result",
    )
    checks = report["checks"]
    click.echo(
        f"{report['jobs']} jobs in {report['seconds']:.1f} s ({report['jobs_per_second']:g} a second), after a start of"
        f" {report['start_seconds']:.1f} s. {checks['compared'] - len(checks['different'])} of {checks['compared']}"
        " checksums are the same when computed directly."
    )
    pages = report["pages"]
    click.echo(
        f"{pages['fetched'] - len(pages['wrong'])} of {pages['fetched']} pages came over HTTP as they are;"
        f" {pages['requests'] - pages['fetched']} calls were answered 503 and made again."
    )
    if service := report["service"]:
        click.echo(f"The service goes on at {service['url']} (log: {service['log']}); stop it: kill {service['pid']}")
