"""RecordingStore: what handlers tell of their work. Every write carries its fence, and the seq that it follows."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

import asyncpg
import msgspec

from quarterdeck.domain.recorded import Entry
from quarterdeck.store.pool import fetch


class Told(msgspec.Struct, frozen=True):
    """Entries of one attempt, to be written right after the job's event `seq`."""

    id: uuid.UUID
    fence: int
    seq: int
    entries: Sequence[Entry]


class Recorded(msgspec.Struct, frozen=True):
    """What was written of a job: the events `first` to `seq`."""

    id: uuid.UUID
    seq: int
    first: int


class Mark(msgspec.Struct, frozen=True):
    """How far a running job has come: `stored` says whether its handlers wrote anything after what was asked for."""

    id: uuid.UUID
    fence: int
    seq: int
    stored: bool


class RecordingStore:
    """The statements behind the recorder. Every method may raise what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def record_events(self, group: Sequence[Told]) -> list[Recorded]:
        """Writes entries of several jobs, each at most once in a group, and each job's last progress.

        A job that is not in the answer was not ours any more, or its seq is not the one that was given.
        """
        group = sorted(group, key=lambda told: told.id)
        numbered = [(told.id, place, entry) for told in group for place, entry in enumerate(told.entries, 1)]
        rows = await fetch(
            self._pool,
            "record_events",
            [told.id for told in group],
            [told.fence for told in group],
            [told.seq for told in group],
            [len(told.entries) for told in group],
            [_progress(told.entries) for told in group],
            [job_id for job_id, _, _ in numbered],
            [place for _, place, _ in numbered],
            [entry.event for _, _, entry in numbered],
            [entry.data for _, _, entry in numbered],
        )
        return [Recorded(row["id"], row["seq"], row["first"]) for row in rows]

    async def recorded_events(self, afters: Mapping[uuid.UUID, int]) -> dict[uuid.UUID, Mark]:
        """How far jobs have come, and whether events were recorded after some seq each; absent ones do not run."""
        rows = await fetch(self._pool, "recorded_events", list(afters), list(afters.values()))
        return {row["id"]: Mark(**dict(row)) for row in rows}


def _progress(entries: Sequence[Entry]) -> str | None:
    return next((entry.data for entry in reversed(entries) if entry.event == "progress"), None)
