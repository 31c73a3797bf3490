"""`python -m benchmarks`: runs the cases in rounds and prints what they took."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console

from benchmarks.bench import Bench, opened
from benchmarks.cases import COMPARISONS, Case, chosen
from benchmarks.machine import look
from benchmarks.measure import Sample
from benchmarks.report import Report, figures_of, ratios_of, show
from quarterdeck.clock import rfc3339
from quarterdeck.store.embedded import EmbeddedError
from quarterdeck.telemetry import log

LOOP: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
with contextlib.suppress(ImportError):  # not for every platform; the report names the loop
    import uvloop

    LOOP = uvloop.new_event_loop

CASE_TIMEOUT = 60.0
"""Seconds after which a case is taken for stuck."""
WARM_UP_SCALE = 0.05
QUICK_SCALE = 0.2
NARROWEST = 140
"""Columns of the tables where they go to a file or a pipe."""


@click.command()
@click.option("--only", "patterns", multiple=True, metavar="NAME", help="Figures whose name contains NAME. Repeatable.")
@click.option("--quick", is_flag=True, help="One round with a fifth of the jobs.")
@click.option("--rounds", type=click.IntRange(1), help="How often each case runs.  [default: 3]")
@click.option("--scale", type=click.FloatRange(0, min_open=True), help="More or fewer jobs in each case.  [default: 1]")
@click.option(
    "--budget",
    type=float,
    default=90.0,
    show_default=True,
    help="Begin no round that would end after SECONDS.",
    metavar="SECONDS",
)
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report here, too.")
@click.option(
    "--dir",
    "parent",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the database is made, and removed; must be on the disk to be measured.  [default: /var/tmp]",
)
def main(
    *,
    patterns: Sequence[str],
    quick: bool,
    rounds: int | None,
    scale: float | None,
    budget: float,
    file: Path | None,
    parent: Path | None,
) -> None:
    """Measures the service beside the floor of its own statements, on an embedded PostgreSQL."""
    log.configure("warning", "console")
    plan = Plan(rounds or (1 if quick else 3), scale or (QUICK_SCALE if quick else 1.0), budget)
    try:
        cases = chosen(patterns, plan.scale)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--only") from None
    console = Console()
    if not console.is_terminal:
        console.width = NARROWEST
    try:
        with asyncio.Runner(loop_factory=LOOP) as runner:
            report = runner.run(_stoppable(measure(cases, plan, parent)))
    except asyncio.CancelledError:
        raise click.Abort from None
    except EmbeddedError as error:
        raise click.ClickException(str(error)) from None
    show(report, console)
    if file is not None:
        file.write_bytes(report.json())


async def _stoppable(work: Coroutine[Any, Any, Report]) -> Report:
    """Ends by SIGTERM as by Ctrl-C: the server is stopped and its directory removed."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


class Plan(NamedTuple):
    """How much to measure: rounds, how many of the usual jobs, seconds after which no round is begun."""

    rounds: int
    scale: float
    budget: float


async def measure(cases: Sequence[Case], plan: Plan, parent: Path | None) -> Report:
    """Runs `cases` on a database of their own, made in `parent`.

    Raises EmbeddedError, TimeoutError for a case that is stuck, AssertionError for one that lost a job.
    """
    begun = time.monotonic()
    with Console(stderr=True).status("starting PostgreSQL") as status:

        def tell(stage: str) -> Callable[[str], None]:
            return lambda name: status.update(f"{stage}: {name}")

        async with opened(parent) as bench:
            machine = await look(bench)
            await _round([case.scaled(WARM_UP_SCALE) for case in cases], bench, tell("warm-up"))
            done: list[list[Sample]] = []
            longest = 0.0
            while len(done) < plan.rounds and (not done or time.monotonic() - begun + longest <= plan.budget):
                since = time.monotonic()
                done.append(await _round(cases, bench, tell(f"round {len(done) + 1} of {plan.rounds}")))
                longest = max(longest, time.monotonic() - since)
    figures = figures_of(done)
    return Report(
        at=rfc3339(dt.datetime.now(dt.UTC)),
        seconds=round(time.monotonic() - begun, 1),
        rounds=len(done),
        scale=plan.scale,
        machine=machine,
        figures=figures,
        ratios=ratios_of(figures, COMPARISONS),
    )


async def _round(cases: Sequence[Case], bench: Bench, say: Callable[[str], None]) -> list[Sample]:
    samples = []
    for case in cases:
        say(case.names[0])
        async with asyncio.timeout(CASE_TIMEOUT):
            await bench.fresh()
            samples += await case.run(bench, case.jobs)
    return samples


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
