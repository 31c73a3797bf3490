"""Events: what happened to a job, told from its timeline and from what its handler wrote."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec

from quarterdeck.domain.state import State

EventName = Literal[
    "job.submitted",
    "job.available",
    "job.started",
    "job.progress",
    "job.log",
    "job.output",
    "job.updated",
    "job.cancel_requested",
    "job.retryable",
    "job.snoozed",
    "job.interrupted",
    "job.rescued",
    "job.retried",
    "job.completed",
    "job.cancelled",
    "job.discarded",
]

MAX_VALUE = 64 * 1024
"""Bytes of a value, as JSON text, that an event carries; of a greater one it only tells the size."""

PROGRESS = "job.progress"
_TERMINAL = {"completed", "cancelled", "discarded"}
_FAILS = {"retryable", "cancelled", "discarded"}
# What an event makes of the state; of those that are not here, the entry tells, or it stays as it was.
_STATES = {
    "available": State.AVAILABLE,
    "started": State.RUNNING,
    "retryable": State.RETRYABLE,
    "snoozed": State.SCHEDULED,
    "interrupted": State.AVAILABLE,
    "rescued": State.AVAILABLE,
    "retried": State.AVAILABLE,
    "completed": State.COMPLETED,
    "cancelled": State.CANCELLED,
    "discarded": State.DISCARDED,
}
_REASONS = {
    "cancel_requested": "cancel_requested",
    "snoozed": "snoozed",
    "interrupted": "interrupted",
    "rescued": "crashed",
}
_REFUNDED = {"snoozed", "interrupted", "rescued"}

_Fields = dict[str, Any]
_entry = msgspec.json.Decoder(list[Any])


class Event(msgspec.Struct, frozen=True):
    """One stored event: `at` in milliseconds since 1970, `data` what changed by it.

    Of several that were merged into one, `merged_from` is the first seq and `seq` the last.
    """

    event: str
    job_id: uuid.UUID
    seq: int
    generation: int
    at: int
    data: dict[str, Any] | msgspec.Raw
    merged_from: int | None = None

    @property
    def ends(self) -> bool:
        """Whether the job ended by it."""
        return self.event.removeprefix("job.") in _TERMINAL

    @property
    def is_progress(self) -> bool:
        """Whether it may be merged with its like."""
        return self.event == PROGRESS


class Written(msgspec.Struct, frozen=True):
    """What a handler wrote: an event of the sort `progress`, `log` or `output`, with its content as JSON."""

    seq: int
    event: str
    generation: int
    at: int
    data: msgspec.Raw


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """A job as far as its events tell of it: how it stands, its timeline, and what its handler wrote.

    `result` and `errors` are JSON, a value greater than MAX_VALUE as `{"$truncated": bytes}`. `written` begins after
    some seq and may end early; `seq` is the job's last event.
    """

    id: uuid.UUID
    tenant: str
    queue: str
    kind: str
    tags: list[str]
    state: State
    state_reason: str | None
    state_detail: str | None
    generation: int
    seq: int
    timeline: str
    result: msgspec.Raw | None
    errors: list[msgspec.Raw]
    written: list[Written]


def events_after(past: Past, after: int) -> list[Event]:
    """The events whose seq is greater than `after`, in order and without gaps: as many of them as are known."""
    transitions = [event for event in _transitions(past) if event.seq > after]
    known = sorted([*transitions, *(_written(past.id, each) for each in past.written)], key=lambda event: event.seq)
    found: list[Event] = []
    for event in known:
        if event.seq == after + 1 + len(found):
            found.append(event)
        elif event.seq > after + len(found):
            break
    return found


def merged(events: Iterable[Event]) -> Iterator[Event]:
    """The events with each run of progress in one, the last: it says where the run began."""
    run: list[Event] = []
    for event in events:
        if run and not (event.is_progress and event.generation == run[-1].generation):
            yield _one(run)
            run = []
        if event.is_progress:
            run.append(event)
        else:
            yield event
    if run:
        yield _one(run)


def _one(run: list[Event]) -> Event:
    if len(run) == 1:
        return run[0]
    first = run[0] if run[0].merged_from is None else msgspec.structs.replace(run[0], seq=run[0].merged_from)
    return msgspec.structs.replace(run[-1], merged_from=first.seq)


def moment(at: int) -> dt.datetime:
    """Milliseconds since 1970 as a time."""
    return dt.datetime.fromtimestamp(at / 1000, dt.UTC)


def _written(job_id: uuid.UUID, each: Written) -> Event:
    # A log line is an object already: its level and its message.
    data = each.data if each.event == "log" else {each.event: each.data}
    return Event(f"job.{each.event}", job_id, each.seq, each.generation, each.at, data)


def _transitions(past: Past) -> Iterator[Event]:
    """The timeline as events. Which error belongs to which failure is told by their order and their attempts."""
    lines = past.timeline.splitlines()
    errors = _Errors(past.errors)
    attempt, generation = 0, 1
    for number, line in enumerate(lines, 1):
        seq, name, at, *rest = _entry.decode(line)
        fields: _Fields = rest[0] if rest else {}
        generation = fields.get("generation", generation)
        attempt = 0 if name == "retried" else fields.get("attempt", attempt)
        data = _change(name, fields, attempt)
        if name in _FAILS and (error := errors.of(attempt)) is not None:
            data["error"] = error
        if name in _REFUNDED:
            attempt -= 1
        if number == len(lines):
            data |= _as_it_stands(past, name)
        yield Event(f"job.{name}", past.id, seq, generation, at, data)


def _change(name: str, fields: _Fields, attempt: int) -> dict[str, Any]:
    """What an entry of the timeline tells of the change that it stands for."""
    data: dict[str, Any] = dict(fields)
    if name in _STATES:
        data["state"] = _STATES[name]
    if name in _REASONS:
        data["state_reason"] = _REASONS[name]
    if name in _FAILS or name == "retried":
        data["attempt"] = attempt
    elif name in _REFUNDED:
        data["attempt"] = attempt - 1
    return data


def _as_it_stands(past: Past, name: str) -> dict[str, Any]:
    """What only the row knows, and only of its last change."""
    found: dict[str, Any] = {}
    if past.state_reason is not None and name not in _REASONS:
        found["state_reason"] = past.state_reason
    if past.state_detail is not None:
        found["state_detail"] = past.state_detail
    if name == "completed":
        found["result"] = past.result
    return found


class _Errors:
    """The records of failed attempts, given out in their order."""

    def __init__(self, records: list[msgspec.Raw]) -> None:
        self._records = records
        self._next = 0

    def of(self, attempt: int) -> msgspec.Raw | None:
        """The next record, if it is that of this attempt."""
        if self._next == len(self._records):
            return None
        record = self._records[self._next]
        known = _attempt_of(record)
        if known is not None and known != attempt:
            return None
        self._next += 1
        return record


class _Record(msgspec.Struct):
    attempt: int | None = None


def _attempt_of(record: msgspec.Raw) -> int | None:
    try:
        return msgspec.json.decode(record, type=_Record).attempt
    except msgspec.MsgspecError:
        return None
