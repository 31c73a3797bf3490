"""The bars: what the figures must come to."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tests.soak.checker import Verdict
from tests.soak.conductor import Account
from tests.soak.figures import Figures
from tests.soak.history import History

RESCUE_P99 = 20.0
"""Seconds."""
EXIT = 25.0
"""Seconds."""
BACK_WITHIN = 10.0
"""Seconds."""
SENT = 0.95
"""Of the jobs that were to be submitted: with less it was not the load that was asked for."""


class Bar(msgspec.Struct, frozen=True):
    """One bar: what it is about, what was asked for, what came of it, and whether that is good."""

    name: str
    limit: str
    value: str
    met: bool


def bars(history: History, verdict: Verdict, account: Account, found: Figures) -> list[Bar]:
    """All bars that this soak can be measured by."""
    return [
        *_promises(verdict, found, faults=bool(history.faults)),
        *_times(found),
        *_behaviour(history, account),
    ]


def _promises(verdict: Verdict, found: Figures, *, faults: bool) -> Iterator[Bar]:
    broken = verdict.by_invariant

    def none_of(name: str, *invariants: str) -> Bar:
        count = sum(broken.get(invariant, 0) for invariant in invariants)
        return Bar(name, "0", str(count), count == 0)

    yield none_of("lost or never ended (I1, I2)", "I1", "I2")
    yield none_of("two outcomes, or not its own (I3, I8)", "I3", "I8")
    yield none_of("overlaps (I9)", "I9")
    yield none_of("run again without a cause (I12)", "I12")
    yield none_of("events that a watcher missed, or saw twice (I13)", "I13")
    yield none_of("other violations", "I4", "I5", "I6", "I7", "I10", "I11")
    if not faults:
        count = found.rerun + found.given_back
        yield Bar("run again or given back, without any fault", "0", str(count), count == 0)


def _times(found: Figures) -> Iterator[Bar]:
    for name, times in sorted(found.rescues.items()):
        value = f"{times.p99:.1f} s ({times.count} jobs, p50 {times.p50:.1f} s)"
        yield Bar(f"rescue p99 after {name}", f"{RESCUE_P99:g} s", value, times.p99 <= RESCUE_P99)
    if found.exits:
        value = f"{max(found.exits):.1f} s ({len(found.exits)} times)"
        yield Bar("SIGTERM to exit", f"{EXIT:g} s", value, max(found.exits) <= EXIT)
    for recovery in found.recoveries:
        value = "never" if recovery.seconds is None else f"{recovery.seconds:.1f} s"
        met = recovery.seconds is not None and recovery.seconds <= BACK_WITHIN
        name = f"95 % of {recovery.usual:.0f}/s after {recovery.name} at {recovery.at:.0f} s"
        yield Bar(name, f"{BACK_WITHIN:g} s", f"{value} (away {recovery.away:.1f} s)", met)


def _behaviour(history: History, account: Account) -> Iterator[Bar]:
    ended = [life for life in history.processes if life.how == "by itself"]
    yield Bar("processes that ended by themselves", "0", str(len(ended)), not ended)
    codes = [life.exit_code for life in history.processes if life.how == "term" and life.exit_code != 0]
    yield Bar("exit codes after SIGTERM other than 0", "none", str(codes or "none"), not codes)
    wrong = [answer.status for submit in history.submits for answer in submit.answers if not answer.accepted]
    yield Bar("answers other than 2xx, 409, or 429 and 503 with Retry-After", "0", str(len(wrong)), not wrong)
    asked = len(history.submits) + account.late
    sent = len(history.submits) / asked if asked else 1.0
    yield Bar("jobs that the load came to submit in time", f"{SENT:.0%}", f"{sent:.1%} of {asked}", sent >= SENT)
    yield Bar("submits that nobody accepted", "0", str(account.unaccepted), not account.unaccepted)
    yield Bar("alarms in the logs", "0", str(len(history.alarms)), not history.alarms)
