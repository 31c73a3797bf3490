"""Calls: statements on behalf of callers who may go away."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from quarterdeck.domain.errors import Unavailable
from quarterdeck.engine.meter import Meter
from quarterdeck.store import pool
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

T = TypeVar("T")

CALL_TIMEOUT = 1.5
"""Seconds a caller waits for the database before it is told that it is unavailable."""


class Calls:
    """Runs statements to their end even where the caller is cancelled, so that no connection is left half-read."""

    def __init__(self, meter: Meter | None = None) -> None:
        self._meter = meter
        self._open = False
        self._tasks: set[asyncio.Task[Any]] = set()

    def open(self) -> None:
        """The schema is there: calls are answered from now on."""
        self._open = True

    def require_open(self) -> None:
        """Raises Unavailable until `open`."""
        if not self._open:
            raise Unavailable("the service has not reached its database yet")

    async def call(self, statement: Coroutine[Any, Any, T]) -> T:
        """What the statement returns; trouble with the database is Unavailable, within 2 s."""
        task = asyncio.create_task(statement)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                return await asyncio.shield(task)
        except BaseException as error:
            if not task.done():
                task.add_done_callback(_end_unheard)
            if pool.is_temporary(error):
                if self._meter is not None:
                    self._meter.database_failed(pool.error_class(error))
                raise Unavailable("the database cannot be reached") from error
            raise

    async def close(self) -> None:
        """Waits for the statements under way; each has its own time limit."""
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _end_unheard(task: asyncio.Task[Any]) -> None:
    """The end of a statement whose caller has gone: trouble that passes is no news."""
    if not task.cancelled() and (error := task.exception()) is not None and not pool.is_temporary(error):
        log.error("call.failed_unheard", exc_info=error)
