"""Feeds: what happens to many jobs, in the order in which it was logged, from a place that a cursor names."""

from __future__ import annotations

import re
import uuid
from bisect import bisect_left
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from quarterdeck.domain import jsonvalue
from quarterdeck.domain.events import Event
from quarterdeck.domain.listing import InvalidListing
from quarterdeck.domain.submission import MAX_TAG_CHARACTERS, NAME

Key = tuple[Hashable, ...]
"""What followers and jobs have in common: a tenant, a field, and its value."""

_CURSOR = re.compile(r"([1-9a-f][0-9a-f]{0,15})-(0|[1-9a-f][0-9a-f]{0,7})")


class FeedFilter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which jobs to follow, by exactly one of the fields: all those of a tenant, or those that have this value."""

    queue: str | None = None
    kind: str | None = None
    tag: str | None = None
    workflow: uuid.UUID | None = None
    batch: uuid.UUID | None = None
    all: bool = False

    def key(self, tenant: str) -> Key:
        """What the jobs in question have among their `routes`. Raises InvalidListing where the filter breaks a rule."""
        given = msgspec.structs.asdict(self)
        fields = [field for field, value in given.items() if value is not None and value is not False]
        if len(fields) != 1:
            raise InvalidListing("all", f"exactly one of {', '.join(given)} has to be given")
        (field,) = fields
        value = given[field]
        if field in ("queue", "kind") and not NAME.fullmatch(value):
            raise InvalidListing(field, "is no name")
        if field == "tag" and (not 1 <= len(value) <= MAX_TAG_CHARACTERS or jsonvalue.check(value)):
            raise InvalidListing(field, "is no tag")
        return (tenant, field, value)


class Position(NamedTuple):
    """A place in the log: before what transaction `xid` logged, or after so many `events` of it."""

    xid: int
    events: int

    @property
    def cursor(self) -> str:
        """The place as text, of `[A-Za-z0-9_-]`."""
        return f"{self.xid:x}-{self.events:x}"


def position_of(cursor: str) -> Position:
    """The place that a cursor stands for. Raises InvalidListing where it is none."""
    found = _CURSOR.fullmatch(cursor)
    if found is None or (xid := int(found[1], 16)) >= 2**63:
        raise InvalidListing("cursor", "is none of a feed: take it as it came")
    return Position(xid, int(found[2], 16))


class FeedEvent(msgspec.Struct, frozen=True):
    """An event, and the place after it."""

    event: Event
    cursor: str


class Gap(msgspec.Struct, frozen=True):
    """Something may be missing here. From `cursor` on there is everything again."""

    cursor: str


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What one commit made of one job: its events `first` to `last`, and how the job stood then."""

    job_id: uuid.UUID
    first: int
    last: int
    queue: str
    kind: str
    tenant: str
    tags: list[str]
    workflow: uuid.UUID | None
    batch: uuid.UUID | None

    def routes(self) -> frozenset[Key]:
        """Who follows one of these wants it."""
        found: list[Key] = [
            (self.tenant, "all", True),
            (self.tenant, "queue", self.queue),
            (self.tenant, "kind", self.kind),
        ]
        found.extend((self.tenant, "tag", tag) for tag in self.tags)
        for field, value in (("workflow", self.workflow), ("batch", self.batch)):
            if value is not None:
                found.append((self.tenant, field, value))
        return frozenset(found)


class Logged(msgspec.Struct, frozen=True):
    """What one transaction logged. Without entries it says that nobody had wanted the log before."""

    xid: int
    entries: list[Entry]


class Place(NamedTuple):
    """One event to come. No entry: a hole.

    `logged` is the place after it in the log, `after` the one from which nothing is missed once it is delivered.
    """

    entry: Entry | None
    seq: int
    logged: Position
    after: Position


def complete(rows: Sequence[Logged], below: int) -> int:
    """How many of the rows, in order of their xids, can be delivered before the others.

    They are below an xid, and none of their jobs has an earlier event in a later row: a transaction that waits for a
    row's lock has its xid already, so the order of xids is not always that of a job's events.
    """
    count = bisect_left(rows, below, key=lambda row: row.xid)
    while 0 < count < len(rows):
        later: dict[uuid.UUID, int] = {}
        for row in rows[count:]:
            for entry in row.entries:
                later[entry.job_id] = min(entry.first, later.get(entry.job_id, entry.first))
        early = next((n for n, row in enumerate(rows[:count]) if _precedes(row, later)), count)
        if early == count:
            break
        count = early
    return count


def _precedes(row: Logged, later: dict[uuid.UUID, int]) -> bool:
    return any(entry.first > later.get(entry.job_id, entry.first) for entry in row.entries)


def places(rows: Sequence[Logged], start: Position) -> list[Place]:
    """The events of the rows after a place, each job's in the order of its events.

    Where a job's were not, the places before the last of them are from before the first: whoever goes on from there
    gets some again, and misses none.
    """
    logged = [each for each in _logged(rows) if each.logged > start]
    order: list[int] = list(range(len(logged)))
    slots: dict[uuid.UUID, list[int]] = {}
    for slot, each in enumerate(logged):
        if each.entry is not None:
            slots.setdefault(each.entry.job_id, []).append(slot)
    for of_job in slots.values():
        for slot, origin in zip(of_job, sorted(of_job, key=lambda slot: logged[slot].seq), strict=True):
            order[slot] = origin
    found: list[Place] = []
    furthest, after = 0, start
    for number, origin in enumerate(order):
        furthest = max(furthest, origin)
        if furthest == number:
            after = logged[number].logged
        found.append(logged[origin]._replace(after=after))
    return found


def _logged(rows: Sequence[Logged]) -> Iterator[Place]:
    """The events in the order of the log; several entries of one transaction have no order, so they are given one."""
    for row in rows:
        number = 0
        for entry in sorted(row.entries, key=_by_job):
            for seq in range(entry.first, entry.last + 1):
                number += 1
                yield Place(entry, seq, *[Position(row.xid, number)] * 2)
        if not row.entries:
            yield Place(None, 0, *[Position(row.xid, 1)] * 2)


def _by_job(entry: Entry) -> Any:
    return entry.job_id, entry.first
