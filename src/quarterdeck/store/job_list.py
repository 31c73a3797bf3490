"""JobListStore: pages of jobs and of what they wrote, newest first."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

import asyncpg
import msgspec

from quarterdeck.domain.job import Job
from quarterdeck.domain.listing import JobFilter
from quarterdeck.domain.state import TERMINAL, State
from quarterdeck.store.pool import ACQUIRE_TIMEOUT, fetch
from quarterdeck.store.queries import SQL
from quarterdeck.store.rows import job_of, raw

MAX_ROWS = 2500
"""Rows of each table that are looked at for one page."""
MAX_BYTES = 4 * 1024 * 1024
"""Bytes, as stored, of the rows that fit the cheap filters, after which a page ends."""
CLOCK_MARGIN = dt.timedelta(seconds=10)
"""How far the time in a job's id may be from when it was created: ids are made before the row, by another clock."""

READING = "set local enable_bitmapscan = off; set local plan_cache_mode = force_custom_plan"
"""Of a table without statistics the planner believes that few rows lie in a range of ids: it would fetch them all, to
sort them, where walking down the index may stop at the budget. And a list's plan depends on what is asked for."""

_TABLES = ("quarterdeck.job", "quarterdeck.job_history")
_RUNNING = "j.id = any(array(select r.id from quarterdeck.job r where r.state = 'running'))"
_LAST_SEQ = 2**63 - 1

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some items, and the position after which the next page begins; None where there is no more."""

    items: list[T]
    end: int | None


class JobEvent(msgspec.Struct, frozen=True):
    """A stored event of a job; `data` is JSON text."""

    seq: int
    at: dt.datetime
    attempt: int
    generation: int
    data: msgspec.Raw


class JobListStore:
    """The statements behind lists. Every method may raise what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def list_jobs(self, wanted: JobFilter, tenant: str, limit: int, before: uuid.UUID | None) -> Page[Job]:
        """Up to `limit` jobs of `tenant` whose ids are less than `before`; fewer where the budget is spent."""
        statement, arguments = compose(wanted, tenant, limit, before)
        async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT) as connection, connection.transaction(readonly=True):
            await connection.execute(READING)
            rows = await connection.fetch(statement, *arguments)
        rows.sort(key=lambda row: row["id"], reverse=True)
        return _page(rows, limit, lambda row: row["id"].int, _job)

    async def list_events(
        self, job_id: uuid.UUID, queue: str, event: str, limit: int, before: int | None
    ) -> Page[JobEvent]:
        """Up to `limit` events of one sort whose `seq` is less than `before`; fewer where the budget is spent."""
        last = _LAST_SEQ if before is None else min(before, _LAST_SEQ)
        rows = await fetch(self._pool, "list_events", job_id, queue, event, last, limit + 1, MAX_ROWS, MAX_BYTES)
        return _page(rows, limit, lambda row: row["seq"], _event)


def compose(wanted: JobFilter, tenant: str, limit: int, before: uuid.UUID | None) -> tuple[str, list[Any]]:
    """The statement of a page, made of fixed pieces for the filters that are there, and its arguments.

    Each table has an arm; one that cannot hold a wanted state is left out.
    """
    arguments: list[Any] = []

    def take(value: object) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    bounds = _bounds(wanted, before, take)
    filters = [f"j.tenant = {take(tenant)}", *_filters(wanted, take)]
    large = f"j.args @> {take(wanted.args)}::jsonb" if wanted.args is not None else "true"
    pieces = {
        "filters": " and ".join(filters),
        "large filters": large,
        "rows": str(MAX_ROWS),
        "bytes": str(MAX_BYTES),
        "limit": f"{take(limit + 1)}::bigint",
    }
    states = frozenset(wanted.states or State)
    arms = []
    for table in _TABLES:
        ended = table == _TABLES[1]
        here = states & TERMINAL if ended else states - TERMINAL
        if not here:
            continue
        within = list(bounds)
        if here == {State.RUNNING}:
            # Those are few, and may lie far below a long backlog of younger ones.
            within.append(_RUNNING)
        arms.append(
            _filled(
                {
                    **pieces,
                    "table": table,
                    "end": "j.finalized_at" if ended else "null::timestamptz",
                    "result": "j.result" if ended else "null::json",
                    "result weight": "coalesce(pg_column_size(j.result), 0)" if ended else "0",
                    "range": " and ".join(within) or "true",
                }
            )
        )
    return "\nunion all\n".join(f"({arm})" for arm in arms), arguments


def _bounds(wanted: JobFilter, before: uuid.UUID | None, take: Callable[[object], str]) -> list[str]:
    """What bounds the rows that are looked at: all of it can be answered by an index."""
    bounds = []
    if wanted.created_before is not None:
        latest = _least_id(wanted.created_before + CLOCK_MARGIN)
        before = latest if before is None else min(before, latest)
    if before is not None:
        bounds.append(f"j.id < {take(before)}")
    if wanted.created_after is not None:
        bounds.append(f"j.id >= {take(_least_id(wanted.created_after - CLOCK_MARGIN))}")
    if wanted.workflow_id is not None:
        bounds.append(f"j.workflow_id = {take(wanted.workflow_id)}")
    return bounds


def _filters(wanted: JobFilter, take: Callable[[object], str]) -> list[str]:
    """What is looked at in each row."""
    filters = []
    if wanted.states:
        filters.append(f"j.state = any({take([state.value for state in wanted.states])}::text[])")
    if wanted.kind is not None:
        filters.append(f"j.kind = {take(wanted.kind)}")
    if wanted.queue is not None:
        filters.append(f"j.queue = {take(wanted.queue)}")
    if wanted.tags:
        filters.append(f"j.tags @> {take(list(wanted.tags))}::text[]")
    if wanted.created_after is not None:
        filters.append(f"j.created_at >= {take(wanted.created_after)}::timestamptz")
    if wanted.created_before is not None:
        filters.append(f"j.created_at < {take(wanted.created_before)}::timestamptz")
    return filters


def _filled(pieces: dict[str, str]) -> str:
    arm = SQL["list_jobs"]
    for name, piece in pieces.items():
        arm = arm.replace(f"/*{name}*/", piece)
    return arm


def _least_id(moment: dt.datetime) -> uuid.UUID:
    """The smallest UUIDv7 of a moment."""
    milliseconds = max(0, int(moment.timestamp() * 1000))
    return uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | 0b10 << 62)


def _page(
    rows: Sequence[asyncpg.Record], limit: int, place: Callable[[asyncpg.Record], int], item: Callable[[Any], T]
) -> Page[T]:
    """A page of rows in their order, the places falling.

    Where the budget ended in one arm, what lies below in another is left to the next page.
    """
    floor = max((place(row) for row in rows if row["stop"]), default=None)
    fitting = [row for row in rows if row["shown"] and (floor is None or place(row) >= floor)]
    shown = fitting[:limit]
    end = place(shown[-1]) if len(fitting) > limit else floor
    return Page([item(row) for row in shown], end)


def _job(row: asyncpg.Record) -> Job:
    values = dict(row)
    del values["shown"], values["stop"]
    return job_of(cast("asyncpg.Record", values))


def _event(row: asyncpg.Record) -> JobEvent:
    data = raw(row["data"]) or msgspec.Raw(b"null")
    return JobEvent(row["seq"], row["at"], row["attempt"], row["generation"], data)
