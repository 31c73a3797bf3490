"""The invariant of what was seen over the live channel: I13."""

from __future__ import annotations

import uuid
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from tests.soak.case import Case, Violation
from tests.soak.history import MILLISECOND, SECOND, FeedWatch, History, JobWatch, Row, Sight
from tests.soak.watchers import TERMINAL

TOLERANCE = 100 * MILLISECOND
"""Between the database's clock and that of the watchers."""
SLACK = 10 * SECOND
"""How long before a gap an event may have been on its way that the gap stands for."""
LATE = SECOND // 2
"""How far a feed, which comes in the order of transactions, may be from the order of times."""
TOLD = frozenset(("job.progress", "job.log", "job.output"))
"""Events that have rows of their own."""


def watchers_see_it_all(case: Case) -> Iterator[Violation]:
    """I13."""
    rows = {row.id: row for row in case.history.rows}
    for watch in case.history.watched:
        why = next(_wrong_with(watch, rows.get(watch.job_id)), None)
        if why is not None:
            yield Violation("I13", why, watch.job_id)
    for feed in case.history.feeds:
        for error in feed.errors:
            yield Violation("I13", f"the feed was answered with {error}")
        yield from _missed(case.history, feed)


def _wrong_with(watch: JobWatch, row: Row | None) -> Iterator[str]:
    for error in watch.errors:
        yield f"who followed it was answered with {error}"
    if row is None:
        yield "somebody follows it, and it is nowhere"
        return
    seen = [seq for sight in watch.sights for seq in sight.seqs]
    if seen != list(range(1, len(seen) + 1)):
        yield f"who followed it saw {_brief(seen)}"
        return
    if not watch.sights or watch.sights[-1].event not in TERMINAL:
        yield f"who followed it never saw its end: {_brief(seen)} of {row.seq}"
        return
    stored = {entry.seq: f"job.{entry.event}" for entry in row.timeline}
    for sight in watch.sights:
        is_right = sight.event == stored[sight.seq] if sight.seq in stored else sight.event in TOLD
        if not is_right or sight.seq > row.seq:
            yield f"seq {sight.seq} was seen as {sight.event}, and it is {stored.get(sight.seq, 'none')}"
    if len(seen) < row.seq and stored.get(len(seen) + 1) != "job.retried":
        yield f"seq {len(seen)} was seen as its end, and it has {row.seq}"


def _missed(history: History, feed: FeedWatch) -> Iterator[Violation]:
    seen: defaultdict[uuid.UUID, set[int]] = defaultdict(set)
    for sight in feed.sights:
        seen[sight.job_id].update(sight.seqs)
    stories = []
    moments: dict[tuple[uuid.UUID, int], int] = {}
    for row in history.rows:
        events = [(entry.seq, entry.at_ms) for entry in row.timeline]
        events += zip(row.more_seqs, row.more_at_ms, strict=True)
        stored = [(seq, history.moment(at_ms)) for seq, at_ms in events]
        stories.append((row, stored))
        moments |= {(row.id, seq): at for seq, at in stored}
    gaps = list(_spans(feed, moments))
    # What comes after the latest that was seen is late, and may have been on its way when the soak ended.
    latest = max((at for row, stored in stories for seq, at in stored if seq in seen[row.id]), default=0)
    for row, stored in stories:
        missed = sorted(
            seq for seq, at in stored if seq not in seen[row.id] and at < latest - LATE and _was_due(feed, gaps, at)
        )
        if missed:
            yield Violation("I13", f"the feed never brought seq {_brief(missed)} of {row.seq}", row.id)


def _spans(feed: FeedWatch, moments: Mapping[tuple[uuid.UUID, int], int]) -> Iterator[tuple[int, int]]:
    """When the events that a gap stands for were committed: who is behind comes to a gap long after that."""
    sights = sorted(feed.sights, key=lambda sight: sight.at)
    for gap in feed.gaps:
        before = bisect_right(sights, gap.since, key=lambda sight: sight.at)
        after = bisect_right(sights, gap.until, key=lambda sight: sight.at)
        since = [_committed(moments, sight) for sight in sights[max(0, before - 1) : before]]
        until = [_committed(moments, sight) for sight in sights[after : after + 1]]
        yield min([gap.since, *since]) - SLACK, min([gap.until, *until]) + TOLERANCE


def _committed(moments: Mapping[tuple[uuid.UUID, int], int], sight: Sight) -> int:
    return moments.get((sight.job_id, sight.seq), sight.at)


def _was_due(feed: FeedWatch, gaps: Sequence[tuple[int, int]], moment: int) -> bool:
    """Whether what was committed then had to come: it was followed, and no gap stands for it."""
    if not feed.since or moment <= feed.since + TOLERANCE:
        return False
    return not any(since <= moment <= until for since, until in gaps)


def _brief(seqs: Sequence[int]) -> str:
    return f"{list(seqs)}" if len(seqs) <= 12 else f"{seqs[:6]} … {seqs[-6:]}"
