"""LostReplies: statements that run to their end and are then reported as failed, below the store, without a network."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection
from types import TracebackType
from typing import Any, Protocol

import asyncpg

from quarterdeck.store import pool
from quarterdeck.store.queries import SQL

COMMIT = "commit"
"""The name of the end of a transaction, beside those of the statements."""

_NAMES = {text: name for name, text in SQL.items()}


class Patch(Protocol):
    """What replaces an attribute for the length of a test: pytest's `monkeypatch`."""

    def setattr(self, target: object, name: str, value: object) -> None:
        """Replaces an attribute."""


class LostReplies:
    """Decides which statements fail, and counts them in `lost` and `unsent`, by the statement's name.

    A share of `lost` is executed and then raises what a lost connection or a time limit would raise; a share of
    `unsent` raises the same and is not executed. Each statement has a sequence of its own, drawn from the seed and its
    name: which try of it fails does not depend on what else runs.
    """

    def __init__(self, seed: int, *, lost: float, unsent: float = 0.0, spared: Collection[str] = ()) -> None:
        self.lost: Counter[str] = Counter()
        self.unsent: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()
        self._shares = (lost, unsent)
        self._spared = frozenset(spared)
        self._chances: defaultdict[str, random.Random] = defaultdict(random.Random)
        for name in (*SQL, COMMIT):
            self._chances[name] = random.Random(f"{seed} {name}")

    def install(self, patch: Patch) -> None:
        """From now on every pool and connection that the service opens is one of these."""
        open_pool, open_connection = pool.open_pool, pool.open_connection

        async def lossy_pool(*arguments: Any, **options: Any) -> LossyPool:
            return LossyPool(await open_pool(*arguments, **options), self)

        async def lossy_connection(*arguments: Any, **options: Any) -> LossyConnection:
            return LossyConnection(await open_connection(*arguments, **options), self)

        patch.setattr(pool, "open_pool", lossy_pool)
        patch.setattr(pool, "open_connection", lossy_connection)

    async def run(self, name: str, connection: Any, statement: Callable[[], Awaitable[Any]]) -> Any:
        """Runs a statement, or not; returns what it returns, or raises."""
        if name in self._spared:
            return await statement()
        chance = self._chances[name]
        drawn, by_time = chance.random(), chance.random() < 0.5
        lost, unsent = self._shares
        if lost <= drawn < lost + unsent:
            self.unsent[name] += 1
            raise _failure(connection, by_time=by_time)
        answer = await statement()
        if drawn < lost:
            self.lost[name] += 1
            raise _failure(connection, by_time=by_time)
        self.passed[name] += 1
        return answer


def _failure(connection: Any, *, by_time: bool) -> Exception:
    if by_time:
        return TimeoutError()  # the connection survives: the driver has cancelled the statement
    connection.terminate()
    return asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")


class LossyConnection:
    """A connection of asyncpg; the service's own statements on it fail as a LostReplies decides."""

    def __init__(self, connection: Any, replies: LostReplies) -> None:
        self._connection = connection
        self._replies = replies

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def fetch(self, statement: str, *arguments: Any) -> Any:
        """As asyncpg's."""
        return await self._run(statement, lambda: self._connection.fetch(statement, *arguments))

    async def fetchval(self, statement: str, *arguments: Any) -> Any:
        """As asyncpg's."""
        return await self._run(statement, lambda: self._connection.fetchval(statement, *arguments))

    async def execute(self, statement: str, *arguments: Any, **options: Any) -> Any:
        """As asyncpg's."""
        return await self._run(statement, lambda: self._connection.execute(statement, *arguments, **options))

    def transaction(self) -> _LossyTransaction:
        """As asyncpg's; its commit may be what fails."""
        return _LossyTransaction(self._connection, self._replies)

    async def _run(self, statement: str, call: Callable[[], Awaitable[Any]]) -> Any:
        name = _NAMES.get(statement)
        return await (call() if name is None else self._replies.run(name, self._connection, call))


class _LossyTransaction:
    def __init__(self, connection: Any, replies: LostReplies) -> None:
        self._connection = connection
        self._replies = replies
        self._transaction = connection.transaction()

    async def __aenter__(self) -> None:
        await self._transaction.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async def end() -> None:
            await self._transaction.__aexit__(kind, error, trace)

        if error is None:
            await self._replies.run(COMMIT, self._connection, end)
        else:
            await end()


class LossyPool:
    """A pool of asyncpg that lends connections of this kind."""

    def __init__(self, inner: pool.Pool, replies: LostReplies) -> None:
        self._pool = inner
        self._replies = replies

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def acquire(self, *, timeout: float | None = None) -> _Loan:
        """As asyncpg's, to be entered."""
        return _Loan(self._pool.acquire(timeout=timeout), self._replies)


class _Loan:
    def __init__(self, loan: Any, replies: LostReplies) -> None:
        self._loan = loan
        self._replies = replies

    async def __aenter__(self) -> LossyConnection:
        return LossyConnection(await self._loan.__aenter__(), self._replies)

    async def __aexit__(self, *raised: object) -> None:
        await self._loan.__aexit__(*raised)
