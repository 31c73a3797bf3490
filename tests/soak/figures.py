"""Figures of a soak: how long rescues took, how fast processes ended, how soon the work went on after a restart."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from tests.soak.case import Case
from tests.soak.history import LOSING, RESTARTS, SECOND, Fault, History
from tests.soak.stories import Claim, Story

WINDOW = 2.0
"""Seconds over which a rate is taken after it."""
SHARE = 0.95
"""Of the usual rate, what counts as being back."""
STEP = 0.1


class Spread(msgspec.Struct, frozen=True):
    """Of a number of times, in seconds."""

    count: int
    p50: float
    p99: float
    longest: float


class Recovery(msgspec.Struct, frozen=True):
    """After a restart of the database: seconds until completions came at 95 % of the usual rate, if they did."""

    name: str
    at: float
    away: float
    usual: float
    seconds: float | None


class Figures(msgspec.Struct, kw_only=True):
    """What the report says beside the verdict."""

    submitted: int
    accepted: int
    ended: dict[str, int]
    executions: int
    rerun: int
    given_back: int
    rescues: dict[str, Spread]
    rescues_with_restart: dict[str, Spread]
    exits: list[float]
    recoveries: list[Recovery]
    faults: dict[str, int]


def figures(case: Case) -> Figures:
    """All figures of a history."""
    history = case.history
    rescues, mixed = rescue_times(case)
    taken = [claim for story in case.stories.values() for claim in story.claims if claim.taken_away]
    ended: defaultdict[str, int] = defaultdict(int)
    for row in history.rows:
        ended[row.state if row.reason is None else f"{row.state} ({row.reason})"] += 1
    faults: defaultdict[str, int] = defaultdict(int)
    for fault in history.faults:
        faults[fault.name] += 1
    return Figures(
        submitted=len(history.submits),
        accepted=sum(any(answer.accepted for answer in submit.answers) for submit in history.submits),
        ended=dict(sorted(ended.items())),
        executions=sum(len(story.executions) for story in case.stories.values()),
        rerun=sum(claim.execution is not None for claim in taken),
        given_back=sum(claim.execution is None for claim in taken),
        rescues={name: spread(times) for name, times in rescues.items()},
        rescues_with_restart={name: spread(times) for name, times in mixed.items()},
        exits=exit_times(history),
        recoveries=recoveries(history),
        faults=dict(sorted(faults.items())),
    )


def spread(times: Sequence[float]) -> Spread:
    """Median, 99th percentile (the nearest rank) and maximum."""
    ordered = sorted(times)
    return Spread(
        len(ordered), round(quantile(ordered, 0.5), 3), round(quantile(ordered, 0.99), 3), round(ordered[-1], 3)
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value at the nearest rank."""
    return ordered[max(0, min(len(ordered) - 1, round(share * len(ordered) + 0.4999999) - 1))]


def rescue_times(case: Case) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds from a fault that lost a process to the next run of each job it held, by the fault's name.

    The second is of those during which the database was restarted, too: nobody may be called dead then before all had
    the time to renew their leases.
    """
    alone: defaultdict[str, list[float]] = defaultdict(list)
    mixed: defaultdict[str, list[float]] = defaultdict(list)
    restarts = [fault for fault in case.history.faults if fault.name in RESTARTS]
    for story in case.stories.values():
        for number, claim in enumerate(story.claims):
            fault = lost_by(case, claim)
            if fault is None:
                continue
            back = _back_at(case, story, number)
            disturbed = any(other.began_at <= back and other.ended_at >= fault.began_at for other in restarts)
            (mixed if disturbed else alone)[fault.name].append((back - fault.began_at) / SECOND)
    return dict(alone), dict(mixed)


def lost_by(case: Case, claim: Claim) -> Fault | None:
    """The fault that took a claim's process away; None where its claim was not taken away, or by nothing of the sort.

    Where nothing was run under the claim, nobody wrote down whose it was: of the faults of that time, the latest.
    """
    if not claim.taken_away or claim.closing is None:
        return None
    since, over = case.history.moment(claim.started.at_ms), case.history.moment(claim.closing.at_ms)
    if claim.execution is not None:
        faults = case.lives.faults(claim.execution.pid)
    elif claim.closing.event == "rescued":
        faults = case.history.faults
    else:
        return None
    fitting = [
        fault
        for fault in faults
        if fault.name in LOSING and fault.began_at <= over and (fault.ended_at >= since or claim.execution is None)
    ]
    return max(fitting, key=lambda fault: fault.began_at, default=None)


def _back_at(case: Case, story: Story, number: int) -> int:
    """When a job ran again after its claim was taken away; where it ended instead, when it did."""
    history = case.history
    if number + 1 < len(story.claims):
        after = story.claims[number + 1]
        if after.execution is not None:
            return after.execution.began_at
        return history.moment(after.started.at_ms)
    return history.moment(story.row.timeline[-1].at_ms)


def exit_times(history: History) -> list[float]:
    """Seconds from SIGTERM to the end, of each process that got one."""
    return [
        round((life.ended_at - life.asked_at) / SECOND, 3)
        for life in history.processes
        if life.how == "term" and life.ended_at is not None and life.asked_at is not None
    ]


def recoveries(history: History) -> list[Recovery]:
    """For each restart of the database while the load went on: how soon completions were back.

    What they are measured by is their rate over the whole load: in the seconds before a restart another fault may have
    held them up, or they may have come twice as fast, to make up for one.
    """
    ends = sorted(
        history.moment(entry.at_ms) for row in history.rows for entry in row.timeline if entry.event == "completed"
    )
    load = max(1, history.load_ended_at - history.began_at)
    usual = _count(ends, history.began_at, history.load_ended_at) * SECOND / load
    return [
        Recovery(
            name=fault.name,
            at=round((fault.began_at - history.began_at) / SECOND, 1),
            away=round((fault.ended_at - fault.began_at) / SECOND, 2),
            usual=round(usual, 1),
            seconds=_back_after(ends, fault.ended_at, usual * SHARE, history.load_ended_at),
        )
        for fault in history.faults
        if fault.name in RESTARTS
    ]


def _back_after(ends: list[int], moment: int, rate: float, until: int) -> float | None:
    """Seconds after `moment` from which on a window's length of completions comes at the rate."""
    waited = 0.0
    while moment + int((waited + WINDOW) * SECOND) <= until:
        since = moment + int(waited * SECOND)
        if _count(ends, since, since + int(WINDOW * SECOND)) >= rate * WINDOW:
            return round(waited, 1)
        waited += STEP
    return None


def _count(ends: list[int], since: int, until: int) -> int:
    return bisect_left(ends, until) - bisect_left(ends, since)
