"""Workers over REST: which processes live."""

from __future__ import annotations

import datetime as dt
from typing import Literal, cast

import msgspec
import quart

from quarterdeck.clock import rfc3339
from quarterdeck.store.fleet import LiveWorker
from quarterdeck.web.endpoint import Call, endpoint, json_response
from quarterdeck.web.job_list import PageQuery
from quarterdeck.web.paging import cursor_of, place_of
from quarterdeck.web.problems import BAD_QUERY, Refusal

_LATEST = (dt.datetime(9999, 1, 1, tzinfo=dt.UTC), "")

Role = Literal["all", "web", "worker"]


class WorkerBody(msgspec.Struct, frozen=True, kw_only=True):
    """A live process: what it runs, how much of it, and until when its lease lasts.

    `queues` is as it was configured; null is every queue. `running` is as of the last heartbeat, `beat_at`.
    """

    id: str
    host: str
    pid: int
    role: Role
    queues: str | None
    kinds: list[str]
    slots: int
    running: int
    draining: bool
    version: str
    started_at: str
    beat_at: str
    lease_until: str


class WorkerPage(msgspec.Struct, frozen=True):
    """A page of workers; `next` is the cursor of the next page, null on the last one."""

    items: list[WorkerBody]
    next: str | None


@endpoint("GET", "/v1/workers", summary="List live workers", responses={200: WorkerPage})
async def list_workers(call: Call, query: PageQuery) -> quart.Response:
    """Every process whose lease is not over, the newest first."""
    after = _LATEST if query.cursor is None else _place(query.cursor)
    workers = await call.service.engine.fleet.workers(after, query.limit)
    following = None
    if len(workers) == query.limit:
        following = cursor_of(workers[-1].started_at.isoformat(), workers[-1].id)
    return json_response(200, WorkerPage([_body(worker) for worker in workers], following))


ENDPOINTS = (list_workers,)


def _place(cursor: str) -> tuple[dt.datetime, str]:
    moment, worker = place_of(cursor, 2)
    try:
        return msgspec.convert(moment, dt.datetime), worker
    except msgspec.ValidationError:
        raise Refusal(BAD_QUERY, "Parameter 'cursor': it is not one that this list has given") from None


def _body(worker: LiveWorker) -> WorkerBody:
    return WorkerBody(
        id=worker.id,
        host=worker.host,
        pid=worker.pid,
        role=cast("Role", worker.role),
        queues=worker.queues,
        kinds=worker.kinds,
        slots=worker.slots,
        running=worker.running,
        draining=worker.draining,
        version=worker.version,
        started_at=rfc3339(worker.started_at),
        beat_at=rfc3339(worker.beat_at),
        lease_until=rfc3339(worker.lease_until),
    )
