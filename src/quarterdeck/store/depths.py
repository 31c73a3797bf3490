"""DepthStore: how many jobs each queue holds."""

from __future__ import annotations

import asyncpg
import msgspec

from quarterdeck.domain.state import State
from quarterdeck.store.pool import fetch

COUNTED = tuple(
    state.value for state in (State.AVAILABLE, State.RUNNING, State.SCHEDULED, State.RETRYABLE, State.PENDING)
)


class QueueDepth(msgspec.Struct, frozen=True):
    """A queue with unfinished jobs: how many in each state, and for how long the first one has been due, in seconds."""

    queue: str
    jobs: dict[str, int]
    oldest_available: float | None


class DepthStore:
    """Counts jobs. May raise what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def queue_depths(self) -> list[QueueDepth]:
        """Every queue that has unfinished jobs. Looks at all of them."""
        rows = await fetch(self._pool, "queue_depths")
        found: dict[str, QueueDepth] = {}
        for row in rows:
            depth = found.get(row["queue"])
            if depth is None:
                depth = found[row["queue"]] = QueueDepth(row["queue"], dict.fromkeys(COUNTED, 0), None)
            depth.jobs[row["state"]] = row["count"]
            if row["oldest"] is not None:
                found[row["queue"]] = msgspec.structs.replace(depth, oldest_available=row["oldest"])
        return list(found.values())
