"""Shelves: where results of ended jobs are kept by their versions. What every kind of them has in common."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

ReadOutcome = Literal["hit", "miss", "poisoned", "error", "open", "busy"]
WriteOutcome = Literal["stored", "refused", "error", "open", "busy"]
Place = Literal["memory", "memcached"]
Gauges = Mapping[str, Mapping[tuple[str, ...], float]]


class Version(msgspec.Struct, frozen=True):
    """One end of one job: what belongs to it never changes.

    A retry by hand makes another `generation`. The moment is there for copies of a database, and for one that was set
    back to an earlier state: there the same job may end with the same numbers once more, but not in the same
    microsecond.
    """

    tenant: str
    job_id: uuid.UUID
    generation: int
    seq: int
    finalized_at: dt.datetime


class Tally(Protocol):
    """Who counts what the cache does. Must not raise."""

    def cache_read(self, place: Place, outcome: ReadOutcome) -> None:
        """A result was looked for."""

    def cache_written(self, place: Place, outcome: WriteOutcome) -> None:
        """A result was offered."""


class Shelf(Protocol):
    """Keeps results by versions. No method raises, or takes longer than 30 ms; who gets nothing asks the database."""

    async def get(self, version: Version) -> bytes | None:
        """The result of that version, if it is there."""

    def put(self, version: Version, result: bytes) -> None:
        """Offers a result. Returns at once; whether it is kept is open."""

    def gauges(self) -> Gauges:
        """Values of metrics, by name and labels."""

    async def close(self) -> None:
        """Lets go of connections; nothing is kept from then on."""
