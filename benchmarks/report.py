"""Report: the figures of a run, as JSON and as tables."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.cases import Comparison
from benchmarks.machine import Machine
from benchmarks.measure import Sample


class Spread(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A figure over the rounds."""

    median: float
    min: float
    max: float
    rounds: list[float]

    @classmethod
    def of(cls, values: Sequence[float], digits: int) -> Spread:
        """The spread of `values`, rounded."""
        kept = [round(value, digits) for value in values]
        return cls(round(statistics.median(values), digits), min(kept), max(kept), kept)


class Latency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long one step took, over all rounds, in milliseconds."""

    count: int
    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """The nearest-rank percentiles: values that were measured."""
        ordered = sorted(seconds)
        p50, p99 = (ordered[-(-len(ordered) * percent // 100) - 1] for percent in (50, 99))
        return cls(len(ordered), round(p50 * 1000, 3), round(p99 * 1000, 3))


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line: jobs per second, processor microseconds of the Python process for each job, latencies by step."""

    name: str
    jobs: int
    rate: Spread
    cpu_us: Spread
    latency_ms: dict[str, Latency]


class Ratio(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`figure` over `over`, in jobs per second, each round by itself."""

    figure: str
    over: str
    ratio: Spread
    bar: float | None


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run."""

    at: str
    seconds: float
    rounds: int
    scale: float
    machine: Machine
    figures: list[Figure]
    ratios: list[Ratio]

    def json(self) -> bytes:
        """As a document to keep."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"


def figures_of(rounds: Sequence[Sequence[Sample]]) -> list[Figure]:
    """The figures, in the order they were first measured."""
    by_name: dict[str, list[Sample]] = {}
    for samples in rounds:
        for sample in samples:
            by_name.setdefault(sample.name, []).append(sample)
    return [_figure(name, samples) for name, samples in by_name.items()]


def ratios_of(figures: Sequence[Figure], comparisons: Sequence[Comparison]) -> list[Ratio]:
    """The comparisons both of whose figures were measured."""
    rates = {figure.name: figure.rate.rounds for figure in figures}
    return [
        Ratio(
            one.figure,
            one.over,
            Spread.of([a / b for a, b in zip(rates[one.figure], rates[one.over], strict=True)], 3),
            one.bar,
        )
        for one in comparisons
        if one.figure in rates and one.over in rates
    ]


def show(report: Report, console: Console) -> None:
    """Prints the tables."""
    table = Table("figure", "jobs", "jobs/s", "min - max", "CPU µs/job", "p50 / p99 ms", title_justify="left", box=None)
    for column in table.columns[1:5]:
        column.justify = "right"
        column.no_wrap = True
    for figure in report.figures:
        table.add_row(
            figure.name,
            f"{figure.jobs:,}",
            f"{figure.rate.median:,.0f}",
            f"{figure.rate.min:,.0f} - {figure.rate.max:,.0f}",
            f"{figure.cpu_us.median:,.0f}",
            ", ".join(f"{step} {each.p50:.2f} / {each.p99:.2f}" for step, each in figure.latency_ms.items()),
        )
    console.print(table)
    if report.ratios:
        console.print()
        ratios = Table("ratio", "median", "min - max", "bar", box=None)
        for one in report.ratios:
            ratios.add_row(
                f"{one.figure} : {one.over}",
                f"{one.ratio.median:.2f}",
                f"{one.ratio.min:.2f} - {one.ratio.max:.2f}",
                "" if one.bar is None else f"{one.bar:g} {'met' if one.ratio.median >= one.bar else 'MISSED'}",
            )
        console.print(ratios)
    machine = report.machine
    console.print()
    console.print(f"{machine.cores} cores ({machine.processor}), Python {machine.python} on {machine.loop}")
    console.print(f"PostgreSQL {machine.postgresql}; a synced write of 8 KiB takes {machine.sync_ms:.2f} ms")
    console.print(f"rounds: {report.rounds}, in {report.seconds:.0f} s")


def _figure(name: str, samples: Sequence[Sample]) -> Figure:
    steps: dict[str, list[float]] = {}
    for sample in samples:
        for step, seconds in sample.latencies.items():
            steps.setdefault(step, []).extend(seconds)
    return Figure(
        name,
        samples[0].jobs,
        Spread.of([sample.jobs / sample.seconds for sample in samples], 1),
        Spread.of([sample.cpu / sample.jobs * 1e6 for sample in samples], 1),
        {step: Latency.of(seconds) for step, seconds in steps.items()},
    )
