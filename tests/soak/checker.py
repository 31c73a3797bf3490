"""The checker: what is wrong with a history, and the facts of each job that it is about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from tests.soak.case import Case, Violation
from tests.soak.history import History
from tests.soak.invariants import INVARIANTS

SHOWN = 5
"""Violations of one invariant that are told in full."""
LOG_LINES = 10
"""Lines of the processes' logs told of one job."""


class Verdict(msgspec.Struct):
    """Every violation that was found, in order of the invariants."""

    case: Case
    violations: list[Violation]

    @property
    def by_invariant(self) -> dict[str, int]:
        """How many of each."""
        return dict(Counter(violation.invariant for violation in self.violations))


def check(history: History) -> Verdict:
    """Checks all invariants."""
    case = Case.of(history)
    found = [violation for invariant in INVARIANTS for violation in invariant(case)]
    return Verdict(case, found)


def told(verdict: Verdict, logs: dict[int, str]) -> Iterator[str]:
    """The violations in words, each with the job's timeline and ledger, and what the processes' logs say of it."""
    counts: Counter[str] = Counter()
    for violation in verdict.violations:
        counts[violation.invariant] += 1
        if counts[violation.invariant] > SHOWN:
            continue
        yield f"{violation.invariant} {violation.job_id or ''}: {violation.why}"
        story = None if violation.job_id is None else verdict.case.stories.get(violation.job_id)
        if story is not None:
            yield from (f"    {fact}" for fact in story.facts(verdict.case.history))
        if violation.job_id is not None:
            yield from (f"    {line}" for line in _mentions(logs, str(violation.job_id)))
    for name, count in counts.items():
        if count > SHOWN:
            yield f"{name}: {count - SHOWN} more"


def _mentions(logs: dict[int, str], job_id: str) -> list[str]:
    found = [
        f"log of replica {replica}: {line}"
        for replica, text in logs.items()
        for line in text.splitlines()
        if job_id in line
    ]
    return found[:LOG_LINES]
