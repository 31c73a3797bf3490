"""FeedStore: the log of what happened to which jobs, which is written while somebody follows feeds."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from itertools import groupby

import asyncpg
import msgspec

from quarterdeck.domain.feeds import Entry, Logged
from quarterdeck.store.pool import fetch

_END = 2**63 - 1
_entries = msgspec.json.Decoder(list[Entry])


class Wanted(msgspec.Struct, frozen=True):
    """Transaction `xid` made the log wanted; `begun` where nobody had wanted it before."""

    xid: int
    begun: bool


class Settled(msgspec.Struct, frozen=True):
    """Whether everybody knows what a transaction has committed; see the statement.

    `open` are the transactions in progress, `top` the first that had not begun.
    """

    at: dt.datetime
    statements: bool
    settled: bool
    top: int
    open: list[int]


class Reading(msgspec.Struct, frozen=True):
    """A part of the log in the order of its transactions; `full` where there may be more.

    `open` are the transactions in progress, `top` the first that had not begun. `kept`: nothing after where it begins
    was pruned.
    """

    rows: list[Logged]
    full: bool
    kept: bool
    top: int
    open: list[int]


class FeedStore:
    """The statements behind feeds. Every method may raise what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def want_feed(self, worker: str, seconds: float) -> Wanted | None:
        """Has the log written for `seconds` from now; `None` where there is no such worker."""
        rows = await fetch(self._pool, "want_feed", worker, seconds)
        return Wanted(int(rows[0]["xid"]), rows[0]["begun"]) if rows else None

    async def feed_settled(self, xid: int, since: dt.datetime | None) -> Settled:
        """Whether everything that commits from now on knows of a transaction that is committed.

        `since` is the `at` of the first such question, if this is another one.
        """
        (row,) = await fetch(self._pool, "feed_settled", str(xid), since)
        return Settled(
            row["at"], row["statements"], row["settled"], int(row["top"]), [int(each) for each in row["open"]]
        )

    async def read_feed(self, since: int, limit: int, before: int = _END) -> Reading:
        """Reads what the transactions from `since` to `before` logged, `limit` rows and little more."""
        rows = await fetch(self._pool, "read_feed", str(since), str(before), limit)
        found = rows if rows[0]["xid"] is not None else []
        first = rows[0]
        return Reading(
            _logged(found), len(found) >= limit, first["kept"], int(first["top"]), [int(each) for each in first["open"]]
        )

    async def read_late_feed(self, xids: Collection[int]) -> list[Logged]:
        """Reads what these transactions logged."""
        return _logged(await fetch(self._pool, "read_late_feed", [str(xid) for xid in xids]))

    async def prune_feed(self) -> bool:
        """Forgets what is older than two hours; whether there was anything. Waits for a lock for 2 s at most."""
        (row,) = await fetch(self._pool, "prune_feed")
        pruned: bool = row["pruned"]
        return pruned


def _logged(rows: Sequence[asyncpg.Record]) -> list[Logged]:
    return [
        Logged(int(xid), [entry for row in group for entry in _entries.decode(row["events"])])
        for xid, group in groupby(rows, key=lambda row: row["xid"])
    ]
