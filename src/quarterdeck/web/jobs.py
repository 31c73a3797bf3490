"""Jobs over REST: submit, look up, wait for, take the result of, cancel."""

from __future__ import annotations

import re
import uuid
from typing import Any

import msgspec
import quart

from quarterdeck.domain.errors import Unavailable
from quarterdeck.domain.job import Job
from quarterdeck.domain.state import State
from quarterdeck.domain.submission import Submit
from quarterdeck.engine.stored import planned
from quarterdeck.web.endpoint import JSON, Call, endpoint, json_response
from quarterdeck.web.idempotency import idempotency_key
from quarterdeck.web.prefer import wait_seconds
from quarterdeck.web.problems import (
    BODY_TOO_LARGE,
    IDEMPOTENCY_IN_FLIGHT,
    IDEMPOTENCY_MISMATCH,
    INVALID,
    JOB_CANCELLED,
    JOB_DISCARDED,
    JOB_GONE,
    MALFORMED_JSON,
    NOT_FOUND,
    QUEUE_FULL,
    REQUEST_TIMEOUT,
    UNKNOWN_KIND,
    UNSUPPORTED_MEDIA_TYPE,
    Refusal,
)
from quarterdeck.web.schemas import JobBody, job_body

RETRY_AFTER = 1
"""Seconds after which a result that is not there yet should be asked for again."""

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class SubmitQuery(msgspec.Struct, frozen=True):
    """The query of a submit. With `dry_run` everything is checked and nothing stored."""

    dry_run: bool = False


@endpoint(
    "POST",
    "/v1/jobs",
    summary="Submit a job",
    responses={202: JobBody, 200: JobBody},
    problems=(
        MALFORMED_JSON,
        REQUEST_TIMEOUT,
        BODY_TOO_LARGE,
        UNSUPPORTED_MEDIA_TYPE,
        INVALID,
        UNKNOWN_KIND,
        IDEMPOTENCY_IN_FLIGHT,
        IDEMPOTENCY_MISMATCH,
        QUEUE_FULL,
    ),
)
async def submit_job(call: Call, body: Submit, query: SubmitQuery) -> quart.Response:
    """202 with the job as it was stored; with `Prefer: wait=N`, 200 with the ended job if it ends in time.

    200 with the earlier job where its unique key is taken; with an `Idempotency-Key` that was used, the first answer.
    """
    engine = call.service.engine
    idempotency = idempotency_key(call, body)
    if query.dry_run:
        new = await engine.jobs.check(body, tenant=call.principal.tenant)
        return json_response(200, job_body(planned(new, engine.clock.now())))
    submitted = await engine.jobs.submit(
        body,
        tenant=call.principal.tenant,
        traceparent=_traceparent(call),
        idempotency=idempotency,
    )
    job = submitted.job
    headers = {"Location": f"{call.request.root_path}{call.request.path}/{job.id}"}
    if submitted.duplicate:
        headers["Quarterdeck-Duplicate"] = "true"
    if submitted.replayed:
        headers["Idempotent-Replayed"] = "true"
    seconds = wait_seconds(call.request.headers.getlist("Prefer"))
    if seconds is not None:
        headers["Preference-Applied"] = f"wait={seconds}"
        if seconds and not job.terminal:
            job = await _wait_for_stored(call, job, seconds)
    return json_response(200 if submitted.duplicate or job.terminal else 202, job_body(job), headers)


@endpoint(
    "GET", "/v1/jobs/{id}", summary="Look a job up", responses={200: JobBody, 304: None}, problems=(NOT_FOUND, JOB_GONE)
)
async def get_job(call: Call, job_id: uuid.UUID) -> quart.Response:
    """200 with the job, or 304 where `If-None-Match` has its ETag.

    `Prefer: wait=N` holds the answer until the job has ended or, with `If-None-Match`, until it changes.
    """
    known = call.request.if_none_match
    seconds = wait_seconds(call.request.headers.getlist("Prefer"))
    if not seconds:
        job = await call.service.engine.jobs.get(job_id, tenant=call.principal.tenant)
    elif known:
        job = await call.service.engine.jobs.wait_for_change(
            job_id, seconds, lambda job: known.contains_weak(_tag(job)), tenant=call.principal.tenant
        )
    else:
        job = await call.service.engine.jobs.wait(job_id, seconds, tenant=call.principal.tenant)
    headers = {"ETag": f'"{_tag(job)}"', "Cache-Control": "private, no-cache"}
    if seconds is not None:
        headers["Preference-Applied"] = f"wait={seconds}"
    if known.contains_weak(_tag(job)):
        response = quart.Response(b"", 304, headers)
        del response.headers["Content-Type"]
        del response.headers["Content-Length"]
        return response
    return json_response(200, job_body(job), headers)


@endpoint(
    "GET",
    "/v1/jobs/{id}/result",
    summary="Take a job's result",
    responses={200: Any, 202: JobBody},
    problems=(NOT_FOUND, JOB_GONE, JOB_CANCELLED, JOB_DISCARDED),
)
async def get_result(call: Call, job_id: uuid.UUID) -> quart.Response:
    """200 with the bare result; 202 with the job while it has not ended. `Prefer: wait=N` holds the answer."""
    headers: dict[str, str] = {}
    seconds = wait_seconds(call.request.headers.getlist("Prefer"))
    if seconds is not None:
        headers["Preference-Applied"] = f"wait={seconds}"
    engine = call.service.engine
    tenant = call.principal.tenant
    job = await (
        engine.jobs.wait(job_id, seconds, tenant=tenant) if seconds else engine.jobs.get(job_id, tenant=tenant)
    )
    if not job.terminal:
        return json_response(202, job_body(job), {**headers, "Retry-After": str(RETRY_AFTER)})
    if job.state is State.COMPLETED:
        return quart.Response(bytes(job.result or b"null"), 200, headers, content_type=JSON)
    raise Refusal(
        JOB_CANCELLED if job.state is State.CANCELLED else JOB_DISCARDED,
        job.state_detail or f"Job {job.id} was {job.state.value}",
        headers=headers,
        state=job.state.value,
        state_reason=job.state_reason and job.state_reason.value,
    )


@endpoint(
    "POST",
    "/v1/jobs/{id}/cancel",
    summary="Cancel a job",
    responses={200: JobBody, 202: JobBody},
    problems=(NOT_FOUND, JOB_GONE),
)
async def cancel_job(call: Call, job_id: uuid.UUID) -> quart.Response:
    """200 with the cancelled job, or one that had ended unchanged; 202 where a running one was asked to stop."""
    job = await call.service.engine.jobs.cancel(job_id, tenant=call.principal.tenant)
    return json_response(202 if job.state is State.RUNNING else 200, job_body(job))


ENDPOINTS = (submit_job, get_job, get_result, cancel_job)


async def _wait_for_stored(call: Call, job: Job, seconds: int) -> Job:
    """The job once it has ended, or as it is when the time is over; it is stored, so no trouble takes it back."""
    try:
        return await call.service.engine.jobs.wait(job.id, seconds, tenant=call.principal.tenant)
    except Unavailable:
        return job


def _tag(job: Job) -> str:
    return f"{job.generation}-{job.seq}"


def _traceparent(call: Call) -> str | None:
    """The caller's trace (W3C Trace Context), if it is one; what is not is ignored, as that document asks for."""
    given = call.request.headers.getlist("traceparent")
    return given[0] if len(given) == 1 and _TRACEPARENT.fullmatch(given[0]) else None
