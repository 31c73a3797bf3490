"""Queues over REST: list, look at, change the settings of."""

from __future__ import annotations

import msgspec
import quart

from quarterdeck.clock import rfc3339
from quarterdeck.domain.queue import QueuePatch, QueueReport, is_queue_name
from quarterdeck.web.endpoint import Call, endpoint, json_response
from quarterdeck.web.job_list import PageQuery
from quarterdeck.web.paging import cursor_of, place_of
from quarterdeck.web.problems import (
    BODY_TOO_LARGE,
    INVALID,
    MALFORMED_JSON,
    NOT_FOUND,
    REQUEST_TIMEOUT,
    UNSUPPORTED_MEDIA_TYPE,
    Refusal,
)

BODY_LIMIT = 64 * 1024


class DepthBody(msgspec.Struct, frozen=True):
    """Unfinished jobs by state."""

    available: int
    running: int
    scheduled: int
    retryable: int
    pending: int


class QueueBody(msgspec.Struct, frozen=True, kw_only=True):
    """A queue: its depth at the moment `as_of`, and its settings.

    `oldest_available_age` is seconds, `throughput` jobs that ended per second over the last ten, `retention` seconds.
    """

    name: str
    paused: bool
    depth: DepthBody
    as_of: str
    oldest_available_age: float | None
    throughput: float
    concurrency: int | None
    concurrency_per_key: int
    rate: str | None
    rate_per_key: str | None
    retention: float | None
    max_depth: int | None


class QueuePage(msgspec.Struct, frozen=True):
    """A page of queues; `next` is the cursor of the next page, null on the last one."""

    items: list[QueueBody]
    next: str | None


@endpoint("GET", "/v1/queues", summary="List queues", responses={200: QueuePage})
async def list_queues(call: Call, query: PageQuery) -> quart.Response:
    """Every queue that was ever set or has unfinished jobs, by name."""
    (after,) = place_of(query.cursor, 1) if query.cursor is not None else [""]
    reports = await call.service.engine.queues.page(after, query.limit)
    following = cursor_of(reports[-1].name) if len(reports) == query.limit else None
    return _fresh(QueuePage([_body(report) for report in reports], following))


@endpoint("GET", "/v1/queues/{name}", summary="Look at a queue", responses={200: QueueBody}, problems=(NOT_FOUND,))
async def get_queue(call: Call, name: str) -> quart.Response:
    """Any legal name: a queue that nobody has named yet is shown as it would be."""
    return _fresh(_body(await call.service.engine.queues.get(_legal(name))))


@endpoint(
    "PATCH",
    "/v1/queues/{name}",
    summary="Change a queue's settings",
    responses={200: QueueBody},
    problems=(NOT_FOUND, MALFORMED_JSON, REQUEST_TIMEOUT, BODY_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, INVALID),
    body_limit=BODY_LIMIT,
)
async def update_queue(call: Call, name: str, body: QueuePatch) -> quart.Response:
    """What is not given stays as it is; null goes back to the default. Claims see the change as soon as it is made."""
    return _fresh(_body(await call.service.engine.queues.update(_legal(name), body)))


ENDPOINTS = (list_queues, get_queue, update_queue)


def _legal(name: str) -> str:
    if not is_queue_name(name):
        raise Refusal(NOT_FOUND, "No queue can have that name")
    return name


def _fresh(content: QueueBody | QueuePage) -> quart.Response:
    return json_response(200, content, {"Cache-Control": "no-store"})


def _body(report: QueueReport) -> QueueBody:
    depth, settings = report.depth, report.settings
    return QueueBody(
        name=report.name,
        paused=settings.paused,
        depth=DepthBody(depth.available, depth.running, depth.scheduled, depth.retryable, depth.pending),
        as_of=rfc3339(depth.as_of),
        oldest_available_age=None if depth.oldest_available_age is None else round(depth.oldest_available_age, 3),
        throughput=round(report.throughput, 1),
        concurrency=settings.concurrency,
        concurrency_per_key=settings.concurrency_per_key,
        rate=settings.rate,
        rate_per_key=settings.rate_per_key,
        retention=settings.retention,
        max_depth=settings.max_depth,
    )
