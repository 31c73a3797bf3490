"""Invariants of what is stored, and of what was answered: I1 to I6, and I10."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from tests.soak.case import Case, Violation
from tests.soak.history import Entry
from tests.soak.stories import generations

TERMINAL = frozenset(("completed", "cancelled", "discarded"))


def no_job_is_lost(case: Case) -> Iterator[Violation]:
    """I1."""
    places = Counter(row.id for row in case.history.rows)
    for job_id, count in places.items():
        if count > 1:
            yield Violation("I1", f"{count} rows", job_id)
    asked = {submit.key for submit in case.history.submits}
    for submit in case.history.submits:
        for job_id in {answer.job_id for answer in submit.answers if answer.job_id is not None}:
            if job_id not in places:
                yield Violation("I1", f"accepted under the key {submit.key}, and nowhere to be found", job_id)
    for row in case.history.rows:
        if row.key not in asked:
            yield Violation("I1", f"nobody asked for it under the key {row.key}", row.id)


def all_is_at_rest(case: Case) -> Iterator[Violation]:
    """I2."""
    for row in case.history.rows:
        if row.place != "job_history" or row.state not in TERMINAL:
            yield Violation("I2", f"it has not ended: {row.state} in {row.place}", row.id)
    for leftover in case.history.leftovers:
        yield Violation("I2", leftover)


def one_outcome(case: Case) -> Iterator[Violation]:
    """I3."""
    for row in case.history.rows:
        lives = generations(row)
        if row.generation != len(lives):
            yield Violation("I3", f"generation {row.generation}, and {len(lives) - 1} retries by hand", row.id)
        for number, entries in enumerate(lives, 1):
            ends = [entry.event for entry in entries if entry.event in TERMINAL]
            ended = number < len(lives) or row.place == "job_history"
            if len(ends) != int(ended):
                yield Violation("I3", f"generation {number} has {len(ends)} ends: {ends}", row.id)
            elif ended and entries[-1].event not in TERMINAL:
                yield Violation("I3", f"{entries[-1].event} after the end of generation {number}", row.id)
        if row.place == "job_history" and row.timeline and row.timeline[-1].event != row.state:
            yield Violation("I3", f"the row says {row.state}, its last event {row.timeline[-1].event}", row.id)


def events_are_dense(case: Case) -> Iterator[Violation]:
    """I4."""
    for row in case.history.rows:
        in_row = [entry.seq for entry in row.timeline]
        seqs = sorted([*in_row, *row.more_seqs])
        if seqs != list(range(1, row.seq + 1)):
            yield Violation("I4", f"the row's seq is {row.seq}, and there are {_brief(seqs)}", row.id)
        elif in_row != sorted(in_row):
            yield Violation("I4", f"not in order: {_brief(in_row)}", row.id)


MOVES: Mapping[tuple[str, str], str] = {
    ("available", "started"): "running",
    ("scheduled", "available"): "available",
    ("retryable", "available"): "available",
    ("running", "cancel_requested"): "cancelling",
    ("running", "retryable"): "retryable",
    ("running", "snoozed"): "scheduled",
    ("running", "interrupted"): "available",
    ("running", "rescued"): "available",
    **{(state, "updated"): state for state in ("available", "scheduled", "retryable", "running", "cancelling")},
    **{(state, "completed"): "completed" for state in ("running", "cancelling")},
    **{(state, "cancelled"): "cancelled" for state in ("available", "scheduled", "retryable", "running", "cancelling")},
    **{(state, "discarded"): "discarded" for state in ("available", "scheduled", "running")},
    **{(state, "retried"): "available" for state in TERMINAL},
}
"""Where an event leads from a state; `cancelling` is running with a request to cancel."""


def moves_are_legal(case: Case) -> Iterator[Violation]:
    """I5."""
    for row in case.history.rows:
        first, *rest = row.timeline or [Entry(1, "nothing", 0)]
        if first.event != "submitted":
            yield Violation("I5", f"its first event is {first.event}", row.id)
            continue
        state = str(first.fields.get("state", "available"))
        for entry in rest:
            after = MOVES.get((state, entry.event))
            if after is None:
                yield Violation("I5", f"{entry.event} (seq {entry.seq}) while it was {state}", row.id)
                break
            state = after


def numbers_add_up(case: Case) -> Iterator[Violation]:
    """I6."""
    for story in case.stories.values():
        row = story.row
        if row.fence != len(story.claims):
            yield Violation("I6", f"its fence is {row.fence} after {len(story.claims)} claims", row.id)
        by_rescue = story.ended_by_rescue
        if by_rescue not in (0, 1) or (by_rescue == 1 and row.state == "completed"):
            yield Violation("I6", f"{row.crashes} crashes, which is {by_rescue} more than its rescues", row.id)
            continue
        attempt = 0
        for claim in story.claims:
            if claim.generation != row.generation:
                continue
            attempt += 1
            if claim.started.fields.get("attempt") != attempt:
                yield Violation("I6", f"the claim at seq {claim.started.seq} is not attempt {attempt}", row.id)
            if claim.closing is not None and claim.closing.event in ("snoozed", "interrupted", "rescued"):
                attempt -= 1
        attempt -= by_rescue
        if row.attempt != attempt:
            yield Violation("I6", f"attempt {row.attempt}, and its claims come to {attempt}", row.id)
        if row.attempt > row.max_attempts:
            yield Violation("I6", f"attempt {row.attempt} of {row.max_attempts}", row.id)


def submits_are_idempotent(case: Case) -> Iterator[Violation]:
    """I10."""
    rows = {row.id: row for row in case.history.rows}
    keys = Counter(row.key for row in case.history.rows if row.key is not None)
    for row in case.history.rows:
        if row.key is not None and keys[row.key] > 1:
            yield Violation("I10", f"one of {keys[row.key]} jobs of the key {row.key}", row.id)
    for submit in case.history.submits:
        accepted = [answer for answer in submit.answers if answer.job_id is not None]
        ids = sorted({str(answer.job_id) for answer in accepted})
        if len(ids) > 1:
            yield Violation("I10", f"the key {submit.key} was answered with {', '.join(ids)}", accepted[0].job_id)
        elif len({answer.digest for answer in accepted}) > 1 and not submit.waits:
            yield Violation("I10", f"two different answers to the key {submit.key}", accepted[0].job_id)
        for answer in accepted[:1]:
            found = rows.get(answer.job_id) if answer.job_id is not None else None
            if found is None:
                continue
            if found.key != submit.key and not answer.duplicate:
                yield Violation("I10", f"answered to the key {submit.key}, and it is {found.key}'s", found.id)
            if answer.duplicate and found.unique_key != submit.unique_key:
                yield Violation("I10", f"said to be a duplicate under {submit.unique_key}, and it is not", found.id)


def _brief(seqs: list[int]) -> str:
    return f"{seqs}" if len(seqs) <= 12 else f"{seqs[:6]} … {seqs[-6:]}"
