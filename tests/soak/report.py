"""The report: figures and bars as a table for people, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from tests.soak.bars import Bar
from tests.soak.checker import Verdict
from tests.soak.conductor import Account
from tests.soak.figures import Figures
from tests.soak.figures import spread as spread_of
from tests.soak.history import FeedWatch, History

ALARMS = 10


def show(console: Console, history: History, account: Account, found: Figures, bars: Sequence[Bar]) -> None:
    """Prints the figures and the bars."""
    figures = Table(
        title=f"soak: {history.seconds:g} s at {history.rate:g} jobs/s, seed {history.seed}", show_header=False
    )
    figures.add_column()
    figures.add_column(overflow="fold")
    for name, value in [*_figures(account, found), *_watched(history)]:
        figures.add_row(name, value)
    console.print(figures)
    table = Table(title="bars")
    for heading in ("bar", "limit", "found", ""):
        table.add_column(heading, overflow="fold")
    for bar in bars:
        table.add_row(bar.name, bar.limit, bar.value, "ok" if bar.met else "[bold red]MISSED[/]")
    console.print(table)
    for alarm in history.alarms[:ALARMS]:
        console.print(f"alarm: {alarm}", markup=False, highlight=False)
    for waiting in account.undrained:
        console.print(f"never ended: {waiting}", markup=False, highlight=False)


def write(
    path: Path, history: History, account: Account, found: Figures, bars: Sequence[Bar], *, verdict: Verdict
) -> None:
    """Writes the same as JSON."""
    document = {
        "seed": history.seed,
        "seconds": history.seconds,
        "rate": history.rate,
        "ok": not verdict.violations and all(bar.met for bar in bars),
        "took": round(account.took_in_all, 1),
        "figures": found,
        "answers": {"accepted": times(account.took), "refused": times(account.refused), "by_status": account.statuses},
        "injected": account.injected,
        "bars": bars,
        "violations": verdict.violations,
        "alarms": history.alarms,
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")


def times(took: Sequence[float]) -> dict[str, float]:
    """How long something took, in seconds."""
    if not took:
        return {}
    spread = spread_of(took)
    return {"p50": spread.p50, "p99": spread.p99, "longest": spread.longest}


def _watched(history: History) -> list[tuple[str, str]]:
    sights = sum(len(watch.sights) for watch in history.watched)
    feeds = history.feeds
    return [
        ("jobs followed one by one", f"{len(history.watched)}, {sights} events seen"),
        ("events seen in the feed", f"{sum(len(feed.sights) for feed in feeds)}, {_gaps(feeds)} gaps"),
    ]


def _gaps(feeds: Sequence[FeedWatch]) -> int:
    return sum(len(feed.gaps) for feed in feeds)


def _figures(account: Account, found: Figures) -> list[tuple[str, str]]:
    late = f", {account.late} too late to be sent" if account.late else ""
    rescues = {
        **found.rescues,
        **{f"{name} with a restart": times for name, times in found.rescues_with_restart.items()},
    }
    return [
        ("submitted", f"{found.submitted}{late}"),
        ("accepted", str(found.accepted)),
        ("ended", _listed(found.ended)),
        ("executions", f"{found.executions}, {found.rerun} of them run again"),
        ("claims given back unrun", str(found.given_back)),
        *(
            (
                f"rescues after {name}",
                f"{times.count}: p50 {times.p50:.1f} s, p99 {times.p99:.1f} s, longest {times.longest:.1f} s",
            )
            for name, times in sorted(rescues.items())
        ),
        ("SIGTERM to exit", ", ".join(f"{seconds:.1f} s" for seconds in found.exits)),
        ("answers", _listed(account.statuses)),
        ("seconds to an answer", _listed(times(account.took))),
        ("seconds to a refusal", _listed(times(account.refused)) or "none was refused"),
        ("faults", _listed(found.faults) or "none"),
        ("on the links", _listed(account.injected) or "nothing"),
        ("took in all", f"{account.took_in_all:.0f} s"),
    ]


def _listed(figures: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in figures.items())
