"""`python benchmarks/compare.py A.json B.json`: what the second run has of the first, figure by figure.

A ratio is marked `~` where the rounds of both runs overlap: then the difference may be weather.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

# Reads the documents as they are: run by its path, this file finds none of the other modules.


def compare(before: dict[str, Any], after: dict[str, Any]) -> Table:
    """The figures and ratios that both runs have, the second over the first."""
    table = Table("figure", "jobs/s", "A", "B", "p50", "p99", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    old = {figure["name"]: figure for figure in before["figures"]}
    for figure in after["figures"]:
        if (was := old.get(figure["name"])) is None:
            continue
        steps = [step for step in figure["latency_ms"] if step in was["latency_ms"]]
        table.add_row(
            figure["name"],
            _over(was["rate"], figure["rate"]),
            f"{was['rate']['median']:,.0f}",
            f"{figure['rate']['median']:,.0f}",
            *(
                ", ".join(f"{figure['latency_ms'][step][key] / was['latency_ms'][step][key]:.2f}" for step in steps)
                for key in ("p50", "p99")
            ),
        )
    known = {(ratio["figure"], ratio["over"]): ratio["ratio"] for ratio in before["ratios"]}
    for ratio in after["ratios"]:
        pair = (ratio["figure"], ratio["over"])
        if pair in known:
            medians = (f"{each['median']:.2f}" for each in (known[pair], ratio["ratio"]))
            table.add_row(" : ".join(pair), _over(known[pair], ratio["ratio"]), *medians)
    return table


def _over(was: dict[str, Any], now: dict[str, Any]) -> str:
    overlap = was["min"] <= now["max"] and now["min"] <= was["max"]
    return f"{'~' if overlap else ''}{now['median'] / was['median']:.2f}"


@click.command()
@click.argument("a", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("b", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(a: Path, b: Path) -> None:
    """Prints run B over run A: above 1 is more jobs a second (better), or more milliseconds (worse)."""
    before, after = (msgspec.json.decode(file.read_bytes()) for file in (a, b))
    console = Console()
    if not console.is_terminal:
        console.width = 140
    for name, was in before["machine"].items():
        if (now := after["machine"].get(name)) != was and name != "sync_ms":
            console.print(f"not the same {name}: {was} and {now}")
    console.print(compare(before, after))


if __name__ == "__main__":
    sys.exit(main())
