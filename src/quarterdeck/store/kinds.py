"""KindStore: kinds that some process has registered."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import msgspec

from quarterdeck.domain.handler import Handler
from quarterdeck.domain.submission import KindDefaults
from quarterdeck.store.pool import fetch


class KindStore:
    """Announce and list kinds. Every method may raise what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def announce_kinds(self, handlers: Sequence[Handler]) -> None:
        """Makes the kinds of this process known, with their schemas and defaults."""
        await fetch(
            self._pool,
            "announce_kinds",
            [handler.kind for handler in handlers],
            [handler.schema() for handler in handlers],
            [msgspec.to_builtins(handler.defaults) for handler in handlers],
        )

    async def list_kinds(self) -> dict[str, KindDefaults]:
        """Defaults by kind, of every kind that any process ever registered."""
        rows = await fetch(self._pool, "list_kinds")
        return {row["name"]: msgspec.convert(row["defaults"], KindDefaults) for row in rows}

    async def ping(self) -> None:
        """Whether the database answers and has the schema."""
        await fetch(self._pool, "ping")
