"""Meter: what the engine tells of its work while it does it, and somebody counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol

from quarterdeck.store.shelf import Place, ReadOutcome, WriteOutcome

How = Literal["handed_off", "stored", "duplicate"]
Move = Literal["promoted", "expired", "rescued", "reconciled"]


class Meter(Protocol):
    """Called on the hot path: each call must cost about a microsecond, and never raise."""

    def submitted(self, queue: str, kind: str, how: How) -> None:
        """A submit was answered."""

    def started(self, queue: str, kind: str, waited: float) -> None:
        """A handler began, `waited` seconds after its job was due."""

    def finished(self, queue: str, kind: str, outcome: str, ran: float | None, total: float | None) -> None:
        """An end was committed: it ran for `ran` seconds, if it did; `total` seconds after its submit it was over."""

    def moved(self, how: Move, queues: Iterable[str]) -> None:
        """Jobs of these queues, one each, were moved."""

    def statement(self, name: str, seconds: float, rows: int) -> None:
        """A grouped statement was committed."""

    def cache_read(self, place: Place, outcome: ReadOutcome) -> None:
        """A result was looked for in the cache."""

    def cache_written(self, place: Place, outcome: WriteOutcome) -> None:
        """A result was offered to the cache."""

    def end_refused(self) -> None:
        """An end came too late."""

    def abandoned(self, kind: str) -> None:
        """A handler was told to stop and did not."""

    def beat_failed(self) -> None:
        """A beat could not be made; called in the heartbeat's thread."""

    def database_failed(self, sort: str) -> None:
        """A statement failed."""

    def lagged(self, seconds: float) -> None:
        """A timer fired too late."""
