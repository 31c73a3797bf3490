"""What a soak leaves behind: everything that the checker and the figures are made from.

Moments are nanoseconds of the machine's monotonic clock, which all processes share; those in a job's timeline are the
database's, in milliseconds since the epoch, and `History.moment` makes one of the other.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, Literal

import msgspec

SECOND = 1_000_000_000
MILLISECOND = 1_000_000

What = Literal["start", "step", "end", "raised", "snoozed", "declined", "stopped"]
"""What a line of the ledger says; all but the first two are the last of an execution."""

FaultName = Literal[
    "kill",
    "stop",
    "black_hole",
    "term",
    "restart_fast",
    "restart_immediate",
    "end_backends",
    "lose_replies",
    "reset",
    "delay",
    "refuse",
    "crowd",
]
LOSING: frozenset[FaultName] = frozenset(("kill", "stop", "black_hole"))
"""Faults by which a process loses its jobs to others."""
RESTARTS: frozenset[FaultName] = frozenset(("restart_fast", "restart_immediate"))


class Answer(msgspec.Struct, frozen=True):
    """One answer to a submit. `digest` stands for the body; `seconds` is how long it took."""

    at: int
    status: int
    seconds: float
    job_id: uuid.UUID | None = None
    digest: str = ""
    duplicate: bool = False
    retry_after: bool = False

    @property
    def accepted(self) -> bool:
        """Whether it says that the job is stored."""
        return self.job_id is not None


class Submit(msgspec.Struct):
    """One job that was asked for, under one idempotency key, as often as it took. Lost answers are not there."""

    key: str
    kind: str
    sent_at: int
    unique_key: str | None = None
    waits: bool = False
    answers: list[Answer] = []


class Cancel(msgspec.Struct, frozen=True):
    """An answered request to cancel: the status, and the state that the job had in the answer."""

    job_id: uuid.UUID
    asked_at: int
    answered_at: int
    status: int
    state: str


class Line(msgspec.Struct, frozen=True, array_like=True):
    """A line of the ledger. `seq` is that of the claim, so (job, seq) is one execution."""

    job_id: uuid.UUID
    seq: int
    what: What
    at: int
    pid: int
    attempt: int = 0
    worker: str = ""
    result: Any = None


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One stored event of a job: an entry of its timeline."""

    seq: int
    event: str
    at_ms: int
    fields: dict[str, Any] = {}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the database has it. `place` is its table; `key` is the idempotency key that it was submitted with."""

    id: uuid.UUID
    place: Literal["job", "job_history"]
    queue: str = "default"
    kind: str
    state: str
    reason: str | None = None
    attempt: int
    max_attempts: int
    generation: int = 1
    crashes: int = 0
    fence: int
    seq: int
    key: str | None = None
    unique_key: str | None = None
    result: Any = None
    timeline: list[Entry]
    more_seqs: list[int] = []
    """Of events that have rows of their own."""
    more_at_ms: list[int] = []
    """And when they were stored."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done to the system. `ended_at` of a restart is when the server took connections again."""

    name: FaultName
    began_at: int
    ended_at: int
    replica: int | None = None
    pid: int | None = None
    note: str = ""


class Process(msgspec.Struct, kw_only=True):
    """One life of a replica. `asked_at` is when it was told to end, by whatever signal."""

    replica: int
    pid: int
    began_at: int
    asked_at: int | None = None
    ended_at: int | None = None
    how: Literal["", "kill", "term", "by itself"] = ""
    exit_code: int | None = None


class Sight(msgspec.Struct, frozen=True, array_like=True):
    """An event as it was seen over the live channel; of several progresses in one, `seq` is the last."""

    at: int
    job_id: uuid.UUID
    seq: int
    event: str
    merged_from: int | None = None

    @property
    def seqs(self) -> range:
        """All that it stands for."""
        return range(self.seq if self.merged_from is None else self.merged_from, self.seq + 1)


class Gap(msgspec.Struct, frozen=True, array_like=True):
    """Something may be missing between what was seen before it, which came at `since`, and its own coming."""

    since: int
    until: int


class JobWatch(msgspec.Struct):
    """What somebody saw of a job whom he followed from its first event to its end; and what should not have come."""

    job_id: uuid.UUID
    sights: list[Sight] = []
    ended: bool = False
    errors: list[str] = []


class FeedWatch(msgspec.Struct):
    """What somebody saw of all jobs, from the first `subscribed` on; and what should not have come."""

    since: int = 0
    sights: list[Sight] = []
    gaps: list[Gap] = []
    errors: list[str] = []


class History(msgspec.Struct, kw_only=True):
    """A whole soak. `epoch` is the monotonic clock's reading at the epoch of the other one."""

    seed: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    lease: float = 15.0
    began_at: int = 0
    load_ended_at: int = 0
    drained_at: int = 0
    epoch: int = 0
    submits: list[Submit] = []
    cancels: list[Cancel] = []
    lines: list[Line] = []
    rows: list[Row] = []
    faults: list[Fault] = []
    processes: list[Process] = []
    watched: list[JobWatch] = []
    feeds: list[FeedWatch] = []
    leftovers: list[str] = []
    """What should not be there any more, as SQL found it: locks, open transactions, workers that left."""
    alarms: list[str] = []
    """Lines of the processes' logs that should never be written."""

    def moment(self, at_ms: int) -> int:
        """A moment of the database's clock on the monotonic one."""
        return self.epoch + at_ms * MILLISECOND

    def save(self, path: Path) -> None:
        """Writes it down, to be checked again."""
        path.write_bytes(msgspec.msgpack.encode(self))

    @classmethod
    def load(cls, path: Path) -> History:
        """Reads what `save` wrote."""
        return msgspec.msgpack.decode(path.read_bytes(), type=cls)
