"""EventStore: what happened to jobs, for those who follow them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

import asyncpg
import msgspec

from quarterdeck.domain.events import MAX_VALUE, Past, Written
from quarterdeck.domain.state import State
from quarterdeck.store.pool import ends_of, fetch

MAX_WRITTEN = 200
"""Events that handlers wrote, of one job in one reading."""

_written = msgspec.json.Decoder(tuple[int, str, int, int, msgspec.Raw])


class EventStore:
    """The statements behind the live channel. Every method may raise what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def read_events(self, afters: Mapping[uuid.UUID, int]) -> dict[uuid.UUID, Past]:
        """The jobs by id, with what their handlers wrote after the seq given for each, MAX_WRITTEN events at most."""
        ids, seqs = list(afters), list(afters.values())
        rows = await fetch(self._pool, "read_events", ids, seqs, MAX_WRITTEN, MAX_VALUE, *ends_of(ids))
        return {row["id"]: _past(row) for row in rows}


def _past(row: asyncpg.Record) -> Past:
    result = row["result"]
    return Past(
        id=row["id"],
        tenant=row["tenant"],
        queue=row["queue"],
        kind=row["kind"],
        tags=row["tags"],
        state=State(row["state"]),
        state_reason=row["state_reason"],
        state_detail=row["state_detail"],
        generation=row["generation"],
        seq=row["seq"],
        timeline=row["timeline"],
        result=None if result is None else msgspec.Raw(result.encode()),
        errors=[msgspec.Raw(error.encode()) for error in row["errors"]],
        written=[
            Written(seq, event, generation, at, data)
            for seq, event, generation, at, data in map(_written.decode, row["written"])
        ],
    )
