"""The cases: what is run how often, and which figures are set against each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

from benchmarks import engine, floor, web
from benchmarks.bench import Bench
from benchmarks.measure import Sample

FEWEST = 20
"""Jobs of the smallest case, whatever the scale."""


class Case(NamedTuple):
    """Something that is run once a round, on fresh tables, with `jobs` jobs, and gives the figures `names`."""

    names: Sequence[str]
    jobs: int
    run: Callable[[Bench, int], Awaitable[list[Sample]]]

    def scaled(self, scale: float) -> Case:
        """The same with fewer or more jobs."""
        return self._replace(jobs=max(FEWEST, round(self.jobs * scale)))


class Comparison(NamedTuple):
    """One figure's jobs/s over another's, round by round; `bar` is the least that is good enough."""

    figure: str
    over: str
    bar: float | None = None


# Sizes are such that a case takes half a second to a second on two cores with a disk that syncs in a millisecond.
_FLOOR = {1: 300, 10: 2_000, 100: 20_000, 500: 20_000}


def _floor(group: int, jobs: int) -> list[Case]:
    steps = [f"floor/{step}/{group}" for step in ("insert", "claim", "finish")]
    return [
        Case(steps, jobs, partial(floor.steps, group=group)),
        Case([f"floor/claim+finish/{group}"], jobs, partial(floor.claim_and_finish, group=group)),
        Case([f"floor/hand-off/{group}"], jobs, partial(floor.hand_off, group=group)),
    ]


# A case stands next to the one it is compared with, so that both meet the same weather.
CASES = [
    *_floor(1, _FLOOR[1]),
    *_floor(10, _FLOOR[10]),
    *_floor(500, _FLOOR[500]),
    *_floor(100, _FLOOR[100]),
    Case(["engine/drain"], 20_000, engine.drain),
    Case(["engine/submit"], 10_000, engine.submit),
    Case(["engine/submit+run"], 10_000, engine.submit_and_run),
    Case(["engine/latency"], 300, engine.latency),
    Case(["http/echo", "http/submit"], 3_000, web.submit),
]

COMPARISONS = [
    Comparison("engine/drain", "floor/claim+finish/100", bar=0.3),
    Comparison("engine/submit", "floor/insert/100"),
    Comparison("engine/submit+run", "floor/hand-off/100"),
    Comparison("engine/latency", "floor/hand-off/1"),
    Comparison("http/submit", "http/echo", bar=0.7),
]


def chosen(patterns: Sequence[str], scale: float) -> list[Case]:
    """The cases with a figure whose name contains one of `patterns`, and those they are set against; none: all.

    Raises ValueError for a pattern that fits nothing.
    """
    names = {name for case in CASES for name in case.names}
    wanted = set() if patterns else names
    for pattern in patterns:
        found = {name for name in names if pattern in name}
        if not found:
            raise ValueError(f"no case is called {pattern!r}; there are {', '.join(sorted(names))}")
        wanted |= found
    wanted |= {comparison.over for comparison in COMPARISONS if comparison.figure in wanted}
    return [case.scaled(scale) for case in CASES if wanted.intersection(case.names)]
