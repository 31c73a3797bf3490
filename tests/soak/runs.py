"""Invariants of what was run, by what the handlers wrote down: I7 to I9, I11 and I12."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from tests.soak.case import Case, Violation
from tests.soak.history import LOSING, MILLISECOND, SECOND, Cancel
from tests.soak.stories import Claim, Execution, Story

TOLERANCE = 100 * MILLISECOND
"""Between the database's clock, read when a transaction begins, and the ledger's."""
AFTERMATH = 5 * SECOND
"""How long after its end a fault may still hit a claim: a statement was under way, or a connection silent."""
OUTCOMES: Mapping[str, frozenset[tuple[str, str | None]]] = {
    "plain": frozenset({("completed", None)}),
    "flaky": frozenset({("completed", None)}),
    "snoozing": frozenset({("completed", None)}),
    "awaiting": frozenset({("completed", None)}),
    "doomed": frozenset({("discarded", "attempts_exhausted")}),
    "declining": frozenset({("cancelled", None)}),
    "overrunning": frozenset({("discarded", "timeout")}),
}
"""How a job ends that nobody cancels and no crash condemns, by its kind."""
LAST_LINES: Mapping[str, frozenset[str]] = {
    "completed": frozenset({"end"}),
    "retryable": frozenset({"raised"}),
    "snoozed": frozenset({"snoozed"}),
}
"""What the execution wrote last, by the event that says how its claim ended."""


def executions_are_claimed(case: Case) -> Iterator[Violation]:
    """I7."""
    known = set(case.stories)
    for line in case.history.lines:
        if line.job_id not in known:
            known.add(line.job_id)
            yield Violation("I7", f"the process {line.pid} ran it, and it is nowhere", line.job_id)
    for story in case.stories.values():
        for execution in story.unclaimed:
            yield Violation("I7", f"ran under seq {execution.seq}, which is no claim", story.row.id)
        for claim in story.claims:
            if len(claim.executions) > 1:
                yield Violation(
                    "I7", f"{len(claim.executions)} executions of the claim at {claim.started.seq}", story.row.id
                )
            for execution in claim.executions:
                yield from _stands(case, story, claim, execution)


def _stands(case: Case, story: Story, claim: Claim, execution: Execution) -> Iterator[Violation]:
    if execution.lines[0].what != "start":
        yield Violation("I7", f"the claim at {claim.started.seq} ran without a start", story.row.id)
    if execution.began_at < case.history.moment(claim.started.at_ms) - TOLERANCE:
        yield Violation("I7", f"it ran before it was claimed at seq {claim.started.seq}", story.row.id)
    over = _over(case, claim)
    if over is not None and execution.began_at > over + TOLERANCE:
        yield Violation("I7", f"it began after its claim was over at seq {_seq(claim)}", story.row.id)
    if not execution.closed and case.lives.ended_at(execution.pid) is None:
        yield Violation("I7", f"the execution of claim {claim.started.seq} never ended", story.row.id)


def outcomes_are_the_authors(case: Case) -> Iterator[Violation]:
    """I8."""
    for story in case.stories.values():
        row = story.row
        for claim in story.claims:
            if claim.closing is None:
                continue
            expected = LAST_LINES.get(claim.closing.event)
            if expected is None:
                continue
            execution = claim.execution
            wrote = "nothing" if execution is None else execution.last.what
            if wrote not in expected:
                yield Violation(
                    "I8", f"{claim.closing.event} at seq {_seq(claim)}, and the handler wrote {wrote}", row.id
                )
        last = story.claims[-1].execution if story.claims else None
        if row.state == "completed" and last is not None and last.last.what == "end" and last.last.result != row.result:
            yield Violation("I8", f"the result is {row.result}, and its author said {last.last.result}", row.id)
        yield from _ends_as_it_should(case, story)


def _ends_as_it_should(case: Case, story: Story) -> Iterator[Violation]:
    row = story.row
    if row.place != "job_history" or row.kind not in OUTCOMES:
        return
    ended = (row.state, row.reason)
    cancelled = any(cancel.job_id == row.id for cancel in case.history.cancels)
    allowed = set(OUTCOMES[row.kind])
    if cancelled or "cancel_requested" in {entry.event for entry in row.timeline}:
        allowed |= {("cancelled", None), ("cancelled", "cancel_requested")}
    if row.crashes >= 3:
        allowed.add(("discarded", "crashed"))
    if ended not in allowed:
        yield Violation("I8", f"a job of the kind {row.kind} ended {row.state} {row.reason or ''}", row.id)


def executions_do_not_overlap(case: Case) -> Iterator[Violation]:
    """I9."""
    for story in case.stories.values():
        executions = sorted(story.executions, key=lambda execution: execution.began_at)
        yield from _overlaps(case, executions, "this job ran twice at a time")
        for claim in story.claims:
            if claim.closing is None or not claim.taken_away:
                continue
            over = case.history.moment(claim.closing.at_ms) + TOLERANCE
            for execution in claim.executions:
                until = case.lives.active_until(execution)
                if until is not None and until > over:
                    late = (until - over) / SECOND
                    yield Violation(
                        "I9",
                        f"it went on for {late:.3f} s after it was {claim.closing.event} (seq {_seq(claim)})",
                        story.row.id,
                    )


def _overlaps(case: Case, executions: list[Execution], what: str) -> Iterator[Violation]:
    until: int | None = None
    before: Execution | None = None
    for execution in executions:
        if before is not None and (until is None or execution.began_at < until):
            by = "without end" if until is None else f"by {(until - execution.began_at) / SECOND:.3f} s"
            other = "" if before.job_id == execution.job_id else f" of {before.job_id}"
            why = (
                f"{what}: claim {before.seq}{other} (pid {before.pid}) and {execution.seq} (pid {execution.pid}), {by}"
            )
            yield Violation("I9" if before.job_id == execution.job_id else "I11", why, execution.job_id)
        ends = case.lives.active_until(execution)
        if before is None or ends is None or (until is not None and ends >= until):
            before, until = execution, ends


def cancelled_and_unique(case: Case) -> Iterator[Violation]:
    """I11."""
    for cancel in case.history.cancels:
        story = case.stories.get(cancel.job_id)
        if story is not None:
            yield from _cancelled(cancel, story)
    held: defaultdict[tuple[str, str], list[Execution]] = defaultdict(list)
    for story in case.stories.values():
        if story.row.unique_key is not None:
            held[story.row.queue, story.row.unique_key] += story.executions
    for (_, key), executions in held.items():
        executions.sort(key=lambda execution: execution.began_at)
        for violation in _overlaps(case, executions, f"two jobs of the unique key {key} at a time"):
            if violation.invariant == "I11":
                yield violation


def _cancelled(cancel: Cancel, story: Story) -> Iterator[Violation]:
    row = story.row
    if cancel.state == "cancelled":
        if row.generation == 1 and row.state != "cancelled":
            yield Violation("I11", f"said to be cancelled, and it ended {row.state}", row.id)
        late = [execution for execution in story.executions if execution.began_at > cancel.answered_at]
        if late:
            yield Violation("I11", f"ran under claim {late[0].seq} after it was said to be cancelled", row.id)
    if cancel.state == "running" and row.generation == 1 and row.state == "discarded":
        yield Violation("I11", "asked to be cancelled while it ran, and it was discarded", row.id)


def causes(case: Case) -> Iterator[Violation]:
    """I12."""
    for story in case.stories.values():
        for claim in story.claims:
            if not claim.taken_away or claim.closing is None:
                continue
            if not has_cause(case, claim):
                pid = "" if claim.execution is None else f" by the process {claim.execution.pid}"
                why = (
                    f"claimed at seq {claim.started.seq}{pid}, {claim.closing.event} at seq {_seq(claim)} for no reason"
                )
                yield Violation("I12", why, story.row.id)


def has_cause(case: Case, claim: Claim) -> bool:
    """Whether a fault explains that a claim was taken away.

    A rescue needs a process that was lost. What was run needs that this very process was, or was told to end. A claim
    that was never run may have been given back because of any trouble with the database around that time.
    """
    execution, closing = claim.execution, claim.closing
    if closing is None:
        return True
    since, over = case.history.moment(claim.started.at_ms) - TOLERANCE, case.history.moment(closing.at_ms)
    for fault in case.history.faults:
        if execution is not None and fault.pid != execution.pid:
            continue
        fits = fault.name in LOSING or fault.name == "term" or (execution is None and closing.event == "interrupted")
        if fits and fault.began_at <= over and fault.ended_at + AFTERMATH >= since:
            return True
    return any(
        life.how == "term" and life.asked_at is not None and since <= life.asked_at <= over
        for life in case.history.processes
        if execution is None or life.pid == execution.pid
    )


def _over(case: Case, claim: Claim) -> int | None:
    return None if claim.closing is None else case.history.moment(claim.closing.at_ms)


def _seq(claim: Claim) -> int | None:
    return None if claim.closing is None else claim.closing.seq
