"""Histories made by hand: a good one, of every sort of story, and the means to spoil it."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from tests.soak.history import (
    SECOND,
    Answer,
    Cancel,
    Entry,
    Fault,
    FeedWatch,
    Gap,
    History,
    JobWatch,
    Line,
    Process,
    Row,
    Sight,
    Submit,
    What,
)

ONE, TWO, REBORN = 101, 102, 103
"""Processes: the first is killed at 50 s and comes back as the last; the second stands still from 100 s to 120 s."""
KILLED_AT, STOPPED_AT, WENT_ON_AT = 50.0, 100.0, 120.0


def job(number: int) -> uuid.UUID:
    """The id of a job."""
    return uuid.UUID(int=(7 << 76) | number)


def moment(seconds: float) -> int:
    """A moment of the soak."""
    return int(seconds * SECOND)


class Tale:
    """A history being written, job by job. Its clocks agree: zero is the epoch of both."""

    def __init__(self) -> None:
        ended: dict[str, Any] = {"asked_at": moment(200), "ended_at": moment(201), "how": "term"}
        self.history = History(
            processes=[
                Process(replica=0, pid=ONE, began_at=0, asked_at=moment(50), ended_at=moment(50.01), how="kill"),
                Process(replica=1, pid=TWO, began_at=0, **ended),
                Process(replica=0, pid=REBORN, began_at=moment(52), **ended),
            ],
            faults=[
                Fault(name="kill", began_at=moment(KILLED_AT), ended_at=moment(53), replica=0, pid=ONE),
                Fault(name="stop", began_at=moment(STOPPED_AT), ended_at=moment(WENT_ON_AT), replica=1, pid=TWO),
            ],
            load_ended_at=moment(190),
            drained_at=moment(199),
        )

    def submit(self, number: int, kind: str = "plain", **fields: Any) -> None:
        """Accepts a job under a key of its own."""
        answer = Answer(moment(1), 202, 0.01, job(number), f"digest {number}")
        self.history.submits.append(Submit(f"key {number}", kind, moment(0.9), answers=[answer], **fields))

    def row(self, number: int, *events: tuple[Any, ...], kind: str = "plain", **fields: Any) -> None:
        """A row whose numbers follow from its events: (seconds, name, fields)."""
        timeline = [Entry(seq, name, round(at * 1000), *rest) for seq, (at, name, *rest) in enumerate(events, 1)]
        names = [entry.event for entry in timeline]
        state = names[-1] if names[-1] in ("completed", "cancelled", "discarded") else "available"
        attempts = names.count("started") - sum(map(names.count, ("snoozed", "interrupted", "rescued")))
        facts: dict[str, Any] = {
            "place": "job" if state == "available" else "job_history",
            "state": state,
            "attempt": attempts,
            "max_attempts": 5,
            "crashes": names.count("rescued"),
            "fence": names.count("started"),
            "seq": len(timeline),
            "key": f"key {number}",
        }
        row = Row(id=job(number), kind=kind, timeline=timeline, **{**facts, **fields})
        self.history.rows.append(row)

    def ran(self, number: int, seq: int, pid: int, *lines: tuple[float, What]) -> None:
        """What was run under the claim at `seq`, as the handler wrote it down."""
        for at, what in lines:
            result = {"seq": seq} if what == "end" else None
            self.history.lines.append(Line(job(number), seq, what, moment(at), pid, 1, "", result))


PLAIN, TRIED, SNOOZED, KILLED, FROZEN, WITHDRAWN, STOPPED, DOOMED, FIRST, SECOND_ONE, UNRUN, TELLING = range(1, 13)


def good() -> Tale:
    """A history of one job of each sort, in which nothing is wrong."""
    tale = Tale()
    _ordinary(tale)
    _lost(tale)
    _withdrawn(tale)
    _watched(tale)
    return tale


def _ordinary(tale: Tale) -> None:
    tale.submit(PLAIN)
    tale.row(PLAIN, (1, "submitted"), (2, "started", {"attempt": 1}), (3, "completed"), result={"seq": 2})
    tale.ran(PLAIN, 2, ONE, (2.1, "start"), (2.9, "end"))

    tale.submit(TRIED, "flaky")
    tale.row(
        TRIED,
        (1, "submitted"),
        (2, "started", {"attempt": 1}),
        (3, "retryable"),
        (4, "available"),
        (5, "started", {"attempt": 2}),
        (6, "completed"),
        kind="flaky",
        result={"seq": 5},
    )
    tale.ran(TRIED, 2, ONE, (2.1, "start"), (2.9, "raised"))
    tale.ran(TRIED, 5, TWO, (5.1, "start"), (5.9, "end"))

    tale.submit(SNOOZED, "snoozing")
    tale.row(
        SNOOZED,
        (1, "submitted", {"state": "scheduled"}),
        (2, "available"),
        (3, "started", {"attempt": 1}),
        (4, "snoozed"),
        (5, "available"),
        (6, "started", {"attempt": 1}),
        (7, "completed"),
        kind="snoozing",
        result={"seq": 6},
    )
    tale.ran(SNOOZED, 3, ONE, (3.1, "start"), (3.9, "snoozed"))
    tale.ran(SNOOZED, 6, TWO, (6.1, "start"), (6.9, "end"))

    tale.submit(DOOMED, "doomed")
    tale.row(
        DOOMED,
        (1, "submitted"),
        (2, "started", {"attempt": 1}),
        (3, "discarded"),
        (4, "retried", {"generation": 2}),
        (5, "started", {"attempt": 1}),
        (6, "discarded"),
        kind="doomed",
        reason="attempts_exhausted",
        max_attempts=1,
        generation=2,
        attempt=1,
    )
    tale.ran(DOOMED, 2, ONE, (2.1, "start"), (2.9, "raised"))
    tale.ran(DOOMED, 5, ONE, (5.1, "start"), (5.9, "raised"))


def _lost(tale: Tale) -> None:
    tale.submit(KILLED, "awaiting")
    tale.row(
        KILLED,
        (48, "submitted"),
        (48, "started", {"attempt": 1}),
        (64, "rescued"),
        (65, "started", {"attempt": 1}),
        (67, "completed"),
        kind="awaiting",
        result={"seq": 4},
    )
    tale.ran(KILLED, 2, ONE, (48.1, "start"), (49.1, "step"))
    tale.ran(KILLED, 4, TWO, (65.1, "start"), (66, "step"), (66.9, "end"))

    tale.submit(FROZEN, "awaiting")  # its first process hears of the end of its lease when it goes on, and is forgiven
    tale.row(
        FROZEN,
        (99, "submitted"),
        (99, "started", {"attempt": 1}),
        (115, "rescued"),
        (115.5, "started", {"attempt": 1}),
        (121, "updated", {"crashes": 0}),
        (122, "completed"),
        kind="awaiting",
        crashes=0,
        result={"seq": 4},
    )
    tale.ran(FROZEN, 2, TWO, (99.1, "start"), (99.9, "step"), (120.01, "stopped"))
    tale.ran(FROZEN, 4, REBORN, (115.6, "start"), (116, "step"), (121.9, "end"))

    tale.submit(UNRUN)  # claimed by the process that is killed, and never begun there
    tale.row(
        UNRUN,
        (49, "submitted"),
        (49.9, "started", {"attempt": 1}),
        (64, "rescued"),
        (65, "started", {"attempt": 1}),
        (66, "completed"),
        result={"seq": 4},
    )
    tale.ran(UNRUN, 4, TWO, (65.1, "start"), (65.2, "end"))


def _withdrawn(tale: Tale) -> None:
    tale.submit(WITHDRAWN)
    tale.row(WITHDRAWN, (1, "submitted", {"state": "scheduled"}), (2, "cancelled"))
    tale.history.cancels.append(Cancel(job(WITHDRAWN), moment(1.9), moment(2.1), 200, "cancelled"))

    tale.submit(STOPPED, "awaiting")
    tale.row(
        STOPPED,
        (1, "submitted"),
        (2, "started", {"attempt": 1}),
        (3, "cancel_requested"),
        (4, "cancelled"),
        kind="awaiting",
        reason="cancel_requested",
    )
    tale.ran(STOPPED, 2, ONE, (2.1, "start"), (3.2, "stopped"))
    tale.history.cancels.append(Cancel(job(STOPPED), moment(2.9), moment(3.1), 202, "running"))

    for number, at in ((FIRST, 10), (SECOND_ONE, 20)):
        tale.submit(number, "awaiting", unique_key="one")
        tale.row(
            number,
            (at, "submitted"),
            (at + 1, "started", {"attempt": 1}),
            (at + 4, "completed"),
            kind="awaiting",
            unique_key="one",
            result={"seq": 2},
        )
        tale.ran(number, 2, ONE, (at + 1.1, "start"), (at + 2, "step"), (at + 3.9, "end"))
    tale.history.submits[-2].answers.append(Answer(moment(30), 200, 0.01, job(FIRST), f"digest {FIRST}"))
    held = Answer(moment(12), 200, 0.01, job(FIRST), "another digest", duplicate=True)
    tale.history.submits.append(
        Submit("key of a duplicate", "awaiting", moment(11.9), unique_key="one", answers=[held])
    )


def _watched(tale: Tale) -> None:
    """Three are followed one by one, and all from the tenth second on: but for what a gap stands for."""
    tale.submit(TELLING, "awaiting")
    tale.row(
        TELLING,
        (140, "submitted"),
        (141, "started", {"attempt": 1}),
        (145, "completed"),
        kind="awaiting",
        result={"seq": 2},
    )
    tale.ran(TELLING, 2, TWO, (141.1, "start"), (144, "step"), (144.9, "end"))
    row = tale.history.rows[-1]
    timeline = [*row.timeline[:2], msgspec.structs.replace(row.timeline[2], seq=7)]
    more = {"more_seqs": [3, 4, 5, 6], "more_at_ms": [142_000, 143_000, 144_000, 144_500]}
    tale.history.rows[-1] = msgspec.structs.replace(row, timeline=timeline, seq=7, **more)
    told = [
        Sight(moment(144.6), job(TELLING), 4, "job.progress", 3),
        Sight(moment(144.7), job(TELLING), 5, "job.log"),
        Sight(moment(144.8), job(TELLING), 6, "job.output"),
    ]
    for number in (TELLING, KILLED, DOOMED):
        sights = _sights(row_of(tale.history, number))
        sights[2:2] = told if number == TELLING else []
        if number == DOOMED:  # it was run again when nobody followed it any more
            del sights[3:]
        tale.history.watched.append(JobWatch(job(number), sights, ended=True))
    feed = FeedWatch(since=moment(10), gaps=[Gap(moment(99.5), moment(100.5))])
    for row in tale.history.rows:
        feed.sights += [sight for sight in _sights(row) if sight.at > moment(10) and row.id != job(UNRUN)]
        feed.sights += told if row.id == job(TELLING) else []
    feed.sights += [sight for sight in _sights(row_of(tale.history, UNRUN)) if sight.seq != 1]
    feed.sights += _sights(row_of(tale.history, UNRUN))[:1]
    feed.sights = [sight for sight in feed.sights if (sight.job_id, sight.seq) != (job(FROZEN), 1)]
    tale.history.feeds.append(feed)


def _sights(row: Row) -> list[Sight]:
    return [Sight(moment(entry.at_ms / 1000 + 0.01), row.id, entry.seq, f"job.{entry.event}") for entry in row.timeline]


# The means to spoil it


def change(history: History, number: int, **fields: Any) -> None:
    """Changes the row of a job."""
    history.rows = [msgspec.structs.replace(row, **fields) if row.id == job(number) else row for row in history.rows]


@contextmanager
def seen_of(history: History, number: int) -> Iterator[list[Sight]]:
    """What was seen of a job by who followed it, to be changed."""
    (watch,) = [watch for watch in history.watched if watch.job_id == job(number)]
    yield watch.sights


def late_feed(history: History, seconds: float) -> None:
    """Has everything come to the feed so much later, its gaps with it."""
    late = moment(seconds)
    (feed,) = history.feeds
    feed.sights = [msgspec.structs.replace(sight, at=sight.at + late) for sight in feed.sights]
    feed.gaps = [Gap(gap.since + late, gap.until + late) for gap in feed.gaps]


def row_of(history: History, number: int) -> Row:
    """The row of a job."""
    (row,) = [row for row in history.rows if row.id == job(number)]
    return row


@contextmanager
def timeline_of(history: History, number: int) -> Iterator[list[Entry]]:
    """The timeline of a job, to be changed; `seq` follows."""
    timeline = list(row_of(history, number).timeline)
    yield timeline
    change(history, number, timeline=timeline, seq=timeline[-1].seq)


def renumbered(timeline: list[Entry]) -> None:
    """Gives entries the seqs of their places."""
    timeline[:] = [msgspec.structs.replace(entry, seq=seq) for seq, entry in enumerate(timeline, 1)]


def write(history: History, number: int, seq: int, pid: int, *lines: tuple[float, What]) -> None:
    """Adds lines to the ledger."""
    tale = Tale()
    tale.ran(number, seq, pid, *lines)
    history.lines += tale.history.lines


def erase(history: History, number: int, seq: int, *, last: int | None = None) -> None:
    """Takes an execution out of the ledger, or only its last lines."""
    lines = [line for line in history.lines if line.job_id == job(number) and line.seq == seq]
    gone = lines if last is None else lines[-last:]
    history.lines = [line for line in history.lines if line not in gone]
