"""JobList: pages of jobs, and of what a job wrote."""

from __future__ import annotations

import uuid
from typing import Any, Generic, TypeVar

import msgspec

from quarterdeck.domain.job import DEFAULT_TENANT, Job
from quarterdeck.domain.listing import DEFAULT_LIMIT, Bookmarks, JobFilter
from quarterdeck.engine.calls import Calls
from quarterdeck.engine.reader import Reader
from quarterdeck.store.job_list import JobEvent, JobListStore, Page

T = TypeVar("T")


class Items(msgspec.Struct, Generic[T], frozen=True):
    """A page: its items, newest first, and the cursor of the next one; None where there is no more."""

    items: list[T]
    next: str | None


class JobList:
    """Lists. Every method raises InvalidListing for a cursor of another list, and Unavailable without the database."""

    def __init__(self, store: JobListStore, *, calls: Calls, reader: Reader) -> None:
        self._store = store
        self._calls = calls
        self._reader = reader

    async def jobs(
        self,
        wanted: JobFilter,
        *,
        tenant: str = DEFAULT_TENANT,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Items[Job]:
        """Jobs that fit `wanted`. A page may hold fewer than `limit`, even none, and not be the last.

        Raises InvalidListing where the filter breaks a rule.
        """
        self._calls.require_open()
        wanted = wanted.checked()
        bookmarks = Bookmarks("jobs", tenant, wanted)
        before = None if cursor is None else uuid.UUID(int=bookmarks.position(cursor))
        return _items(await self._calls.call(self._store.list_jobs(wanted, tenant, limit, before)), bookmarks)

    async def events(
        self,
        job_id: uuid.UUID,
        event: str,
        *,
        tenant: str = DEFAULT_TENANT,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Items[JobEvent]:
        """Stored events of a job: `event` is `log` or `output`. Raises JobNotFound."""
        self._calls.require_open()
        bookmarks = Bookmarks("events", tenant, job_id, event)
        before = None if cursor is None else bookmarks.position(cursor)
        job = await self._reader.get(job_id, tenant)
        return _items(
            await self._calls.call(self._store.list_events(job_id, job.queue, event, limit, before)), bookmarks
        )


def _items(page: Page[Any], bookmarks: Bookmarks) -> Items[Any]:
    return Items(page.items, None if page.end is None else bookmarks.cursor(page.end))
