"""Grouped: reads for everybody who asks at the same time with one statement."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Generic, TypeVar

from quarterdeck.domain.errors import Unavailable
from quarterdeck.engine.meter import Meter
from quarterdeck.store import pool

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Grouped(Generic[K, V]):
    """Answers by key. Who asks alone waits for nobody; a thousand who ask at once cost a few statements.

    Each group is read after its callers asked, so that everybody sees at least what was committed by then.
    """

    def __init__(
        self, statement: str, read: Callable[[list[K]], Awaitable[Mapping[K, V]]], *, most: int, meter: Meter
    ) -> None:
        """`most` is the number of different keys in a group; `statement` is the name under which it is measured."""
        self._statement = statement
        self._read = read
        self._most = most
        self._meter = meter
        self._asked: asyncio.Queue[tuple[K, asyncio.Future[V | None]]] = asyncio.Queue()

    async def get(self, key: K) -> V | None:
        """What is read of the key; None where there is nothing. Raises Unavailable. Its time limit is its caller's."""
        answer: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        self._asked.put_nowait((key, answer))
        return await answer

    async def run(self) -> None:
        """The loop."""
        while True:
            group: dict[K, list[asyncio.Future[V | None]]] = {}
            key, answer = await self._asked.get()
            while True:
                if not answer.done():  # its caller still waits
                    group.setdefault(key, []).append(answer)
                if len(group) >= self._most or self._asked.empty():
                    break
                key, answer = self._asked.get_nowait()
            if group:
                await self._answer(group)

    async def _answer(self, group: Mapping[K, list[asyncio.Future[V | None]]]) -> None:
        began = time.monotonic()
        try:
            found = await self._read(list(group))
        except Exception as error:
            self._meter.database_failed(pool.error_class(error))
            if not pool.is_temporary(error):
                raise
            for answers in group.values():
                for answer in answers:
                    if not answer.done():
                        answer.set_exception(Unavailable("the database cannot be reached"))
            return
        self._meter.statement(self._statement, time.monotonic() - began, len(found))
        for key, answers in group.items():
            for answer in answers:
                if not answer.done():
                    answer.set_result(found.get(key))
