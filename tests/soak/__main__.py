"""`python -m tests.soak`: plays a soak, checks it, reports, and exits with 1 where a promise or a bar was missed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import msgspec
from rich.console import Console

from tests.soak import report
from tests.soak.bars import bars
from tests.soak.checker import check, told
from tests.soak.conductor import Account, Conductor, Wishes
from tests.soak.figures import figures
from tests.soak.history import History

HISTORY = "history.msgpack"
ACCOUNT = "account.json"
INTERRUPTED = 130
LOOP: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
with contextlib.suppress(ImportError):  # not for every platform
    import uvloop

    LOOP = uvloop.new_event_loop


@click.command()
@click.option("--seconds", default=60.0, show_default=True, help="How long the load goes on.")
@click.option("--rate", default=200.0, show_default=True, help="Jobs submitted a second.")
@click.option("--seed", type=int, help="What the faults and the load are drawn from [default: a new one].")
@click.option("--faults/--no-faults", default=True, help="Whether anything goes wrong [default: --faults].")
@click.option(
    "--bars/--no-bars", "bars_count", default=True, help="Whether a missed bar fails it, too [default: --bars]."
)
@click.option("--report", "report_file", type=click.Path(path_type=Path, dir_okay=False), help="Write figures as JSON.")
@click.option("--keep", is_flag=True, help="Keep the logs, the ledger and the history also where all is well.")
@click.option("--again", type=click.Path(path_type=Path, exists=True), help="Check the history kept in this directory.")
def main(
    *,
    seconds: float,
    rate: float,
    seed: int | None,
    faults: bool,
    bars_count: bool,
    report_file: Path | None,
    keep: bool,
    again: Path | None,
) -> None:
    console = Console(soft_wrap=True, highlight=False)
    if again is not None:
        history = History.load(again / HISTORY)
        account = msgspec.json.decode((again / ACCOUNT).read_bytes(), type=Account)
        logs = {number: path.read_text(errors="replace") for number, path in enumerate(sorted(again.glob("*.log")))}
        sys.exit(_judge(console, history, account, logs, report_file, bars_count=bars_count))
    # A short path: the database's socket is in it.
    directory = Path(tempfile.mkdtemp(prefix="qd-soak-"))
    directory.chmod(0o711)  # where root plays it, the database is another account's
    wishes = Wishes(seconds=seconds, rate=rate, seed=random.randrange(2**31) if seed is None else seed, faults=faults)
    console.print(f"seed {wishes.seed}, in {directory}")
    conductor = Conductor(wishes, directory, say=lambda text: console.print(text, markup=False))
    kept = True
    try:
        with asyncio.Runner(loop_factory=LOOP) as runner:
            history, account = runner.run(_play(conductor))
        history.save(directory / HISTORY)
        (directory / ACCOUNT).write_bytes(msgspec.json.encode(account))
        code = _judge(console, history, account, conductor.logs(), report_file, bars_count=bars_count)
        kept = keep or code != 0
    except (KeyboardInterrupt, asyncio.CancelledError):
        kept, code = keep, INTERRUPTED
    finally:
        if kept:
            console.print(f"all of it is kept in {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    sys.exit(code)


async def _play(conductor: Conductor) -> tuple[History, Account]:
    """Plays it; SIGTERM ends it as Ctrl-C does, and everything that it started with it."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await conductor.run()


def _judge(
    console: Console,
    history: History,
    account: Account,
    logs: dict[int, str],
    report_file: Path | None,
    *,
    bars_count: bool,
) -> int:
    verdict = check(history)
    found = figures(verdict.case)
    measured = bars(history, verdict, account, found)
    for line in told(verdict, logs):
        console.print(line, markup=False)
    report.show(console, history, account, found, measured)
    if report_file is not None:
        report.write(report_file, history, account, found, measured, verdict=verdict)
    good = not verdict.violations and (not bars_count or all(bar.met for bar in measured))
    console.print("all is well" if good else "NOT as promised")
    return 0 if good else 1


if __name__ == "__main__":
    main()
