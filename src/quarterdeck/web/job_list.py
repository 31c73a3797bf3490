"""Lists of jobs, and of what a job wrote, over REST."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from typing import Annotated, Any, cast

import msgspec
import quart

from quarterdeck.clock import rfc3339
from quarterdeck.domain.jsonvalue import decode_stored
from quarterdeck.domain.listing import DEFAULT_LIMIT, MAX_LIMIT, InvalidListing, JobFilter
from quarterdeck.domain.state import State
from quarterdeck.engine.job_list import Items
from quarterdeck.store.job_list import JobEvent
from quarterdeck.web import strictjson
from quarterdeck.web.endpoint import Call, endpoint, json_response
from quarterdeck.web.problems import JOB_GONE, NOT_FOUND, Refusal
from quarterdeck.web.schemas import JobBody, job_body

Limit = Annotated[int, msgspec.Meta(ge=1, le=MAX_LIMIT)]
# Text that is read strictly: the lax reading of a query would take any number for a time.
Moment = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]


class PageQuery(msgspec.Struct, frozen=True):
    """The query of a list: how many items at most, and the `next` of the page before."""

    limit: Limit = DEFAULT_LIMIT
    cursor: str | None = None


class JobsQuery(msgspec.Struct, frozen=True):
    """Which jobs to list. `state` may be repeated (any of them), and `tag` (all of them); `args` is a JSON object."""

    state: list[State] = []
    kind: str | None = None
    queue: str | None = None
    tag: list[str] = []
    workflow_id: uuid.UUID | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    args: str | None = None
    limit: Limit = DEFAULT_LIMIT
    cursor: str | None = None


class JobPage(msgspec.Struct, frozen=True):
    """Jobs, newest first; `next` is the cursor of the next page, null on the last one."""

    items: list[JobBody]
    next: str | None


class LogLine(msgspec.Struct, frozen=True):
    """A line that a handler logged."""

    seq: int
    at: str
    attempt: int
    generation: int
    level: str
    message: str


class LogPage(msgspec.Struct, frozen=True):
    """Log lines, newest first; `next` is the cursor of the next page, null on the last one."""

    items: list[LogLine]
    next: str | None


class Output(msgspec.Struct, frozen=True):
    """A value that a handler put out."""

    seq: int
    at: str
    attempt: int
    generation: int
    data: Any


class OutputPage(msgspec.Struct, frozen=True):
    """Outputs, newest first; `next` is the cursor of the next page, null on the last one."""

    items: list[Output]
    next: str | None


@endpoint("GET", "/v1/jobs", summary="List jobs", responses={200: JobPage})
async def list_jobs(call: Call, query: JobsQuery) -> quart.Response:
    """200 with jobs, newest first. A page may hold fewer than `limit` and have a `next` all the same."""
    engine = call.service.engine
    page = await engine.job_list.jobs(
        _filter(query), tenant=call.principal.tenant, limit=query.limit, cursor=query.cursor
    )
    await engine.fleet.look(page.items)
    return json_response(200, JobPage([job_body(engine.fleet.present(job)) for job in page.items], page.next))


@endpoint(
    "GET", "/v1/jobs/{id}/logs", summary="List a job's log", responses={200: LogPage}, problems=(NOT_FOUND, JOB_GONE)
)
async def list_logs(call: Call, job_id: uuid.UUID, query: PageQuery) -> quart.Response:
    """200 with what its handler logged, newest first."""
    page = await _events(call, job_id, "log", query)
    lines = [_line(event) for event in page.items]
    return json_response(200, LogPage(lines, page.next))


@endpoint(
    "GET",
    "/v1/jobs/{id}/outputs",
    summary="List a job's outputs",
    responses={200: OutputPage},
    problems=(NOT_FOUND, JOB_GONE),
)
async def list_outputs(call: Call, job_id: uuid.UUID, query: PageQuery) -> quart.Response:
    """200 with what its handler put out, newest first."""
    page = await _events(call, job_id, "output", query)
    outputs = [
        Output(event.seq, rfc3339(event.at), event.attempt, event.generation, event.data) for event in page.items
    ]
    return json_response(200, OutputPage(outputs, page.next))


ENDPOINTS = (list_jobs, list_logs, list_outputs)


def _line(event: JobEvent) -> LogLine:
    line = decode_stored(bytes(event.data))
    # As JSON with escapes: a line may hold what UTF-8 cannot, a lone surrogate.
    level, message = (cast("str", msgspec.Raw(json.dumps(line[name]).encode())) for name in ("level", "message"))
    return LogLine(event.seq, rfc3339(event.at), event.attempt, event.generation, level, message)


async def _events(call: Call, job_id: uuid.UUID, event: str, query: PageQuery) -> Items[JobEvent]:
    return await call.service.engine.job_list.events(
        job_id, event, tenant=call.principal.tenant, limit=query.limit, cursor=query.cursor
    )


def _filter(query: JobsQuery) -> JobFilter:
    return JobFilter(
        states=tuple(query.state),
        kind=query.kind,
        queue=query.queue,
        tags=tuple(query.tag),
        workflow_id=query.workflow_id,
        created_after=_moment("created_after", query.created_after),
        created_before=_moment("created_before", query.created_before),
        args=_args(query.args),
    )


def _moment(parameter: str, text: str | None) -> dt.datetime | None:
    try:
        return None if text is None else msgspec.convert(text, dt.datetime)
    except msgspec.ValidationError:
        raise InvalidListing(parameter, "must be a time such as 2026-01-31T12:00:00Z (%2B for a plus sign)") from None


def _args(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = strictjson.decode(text.encode())
    except Refusal as refusal:
        raise InvalidListing("args", f"is not strict JSON: {refusal.problem.detail}") from None
    if not isinstance(value, dict):
        raise InvalidListing("args", "must be a JSON object")
    return value
