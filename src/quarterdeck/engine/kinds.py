"""KindDirectory: what is known of a kind: registered here, or by any process ever."""

from __future__ import annotations

import asyncio

from quarterdeck.domain.errors import UnknownKind
from quarterdeck.domain.handler import Handler
from quarterdeck.domain.submission import KindDefaults
from quarterdeck.engine.registry import Registry
from quarterdeck.store.kinds import KindStore


class KindDirectory:
    """Answers from this process's registry, then from the database; what was once known stays known."""

    def __init__(self, registry: Registry, kinds: KindStore) -> None:
        self._registry = registry
        self._kinds = kinds
        self._known: dict[str, KindDefaults] = {}
        self._reading: asyncio.Task[dict[str, KindDefaults]] | None = None

    async def find(self, kind: str) -> tuple[Handler | None, KindDefaults]:
        """The handler, where it is registered here, and the kind's defaults. Raises UnknownKind."""
        found = self.known(kind)
        if found is None:
            self._known = await self._read()
            found = self.known(kind)
        if found is None:
            raise UnknownKind(kind)
        return found

    def known(self, kind: str) -> tuple[Handler | None, KindDefaults] | None:
        """The same as far as it is known without asking the database; None where it is not."""
        handler = self._registry.get(kind)
        if handler is not None:
            return handler, handler.defaults
        defaults = self._known.get(kind)
        return None if defaults is None else (None, defaults)

    async def _read(self) -> dict[str, KindDefaults]:
        # Callers that come while the list is read share that one reading.
        if self._reading is None:
            self._reading = asyncio.create_task(self._kinds.list_kinds())
            self._reading.add_done_callback(self._read_done)
        return await asyncio.shield(self._reading)

    def _read_done(self, task: asyncio.Task[dict[str, KindDefaults]]) -> None:
        self._reading = None
        if not task.cancelled():
            task.exception()  # every waiter has it; nobody waiting is no reason to complain
