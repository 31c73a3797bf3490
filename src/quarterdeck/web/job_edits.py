"""Changes to jobs over REST: change a waiting one, run an ended one again, forget it."""

from __future__ import annotations

import re
import uuid

import quart

from quarterdeck.domain.edit import Edit
from quarterdeck.domain.job import Job
from quarterdeck.web.endpoint import Call, endpoint, json_response
from quarterdeck.web.problems import (
    BAD_REQUEST,
    BODY_TOO_LARGE,
    INVALID,
    JOB_ENDED,
    JOB_GONE,
    JOB_RUNNING,
    JOB_STARTED,
    JOB_WAITING,
    MALFORMED_JSON,
    NOT_FOUND,
    PRECONDITION_FAILED,
    REQUEST_TIMEOUT,
    UNIQUE_KEY_TAKEN,
    UNSUPPORTED_MEDIA_TYPE,
    Refusal,
)
from quarterdeck.web.schemas import JobBody, job_body

# RFC 9110, section 8.8.3; a list may have empty elements.
_TAG = r'(?:(W/)?"([\x21\x23-\x7e\x80-\xff]*)")'
_TAGS = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t]*{_TAG}?)*+[ \t]*")
_EACH = re.compile(_TAG)


@endpoint(
    "PATCH",
    "/v1/jobs/{id}",
    summary="Change a waiting job",
    responses={200: JobBody},
    problems=(
        MALFORMED_JSON,
        NOT_FOUND,
        JOB_GONE,
        REQUEST_TIMEOUT,
        JOB_RUNNING,
        JOB_ENDED,
        JOB_STARTED,
        UNIQUE_KEY_TAKEN,
        PRECONDITION_FAILED,
        BODY_TOO_LARGE,
        UNSUPPORTED_MEDIA_TYPE,
        INVALID,
    ),
)
async def update_job(call: Call, job_id: uuid.UUID, body: Edit) -> quart.Response:
    """200 with the job as it is now. What is given replaces what was there; `If-Match` has the version to change."""
    job = await call.service.engine.job_edits.update(
        job_id, body, tenant=call.principal.tenant, versions=_versions(call.request.headers.getlist("If-Match"))
    )
    return _answer(job)


@endpoint(
    "POST",
    "/v1/jobs/{id}/retry",
    summary="Run a job again, or now",
    responses={200: JobBody},
    problems=(NOT_FOUND, JOB_GONE, JOB_RUNNING, JOB_WAITING, UNIQUE_KEY_TAKEN),
)
async def retry_job(call: Call, job_id: uuid.UUID) -> quart.Response:
    """200 with the job, available now: an ended one as a new generation, a scheduled or retryable one as it was."""
    return _answer(await call.service.engine.job_edits.retry(job_id, tenant=call.principal.tenant))


@endpoint(
    "DELETE",
    "/v1/jobs/{id}",
    summary="Forget an ended job",
    responses={204: None},
    problems=(NOT_FOUND, JOB_GONE, JOB_RUNNING, JOB_WAITING),
)
async def delete_job(call: Call, job_id: uuid.UUID) -> quart.Response:
    """204: the job, its logs and its outputs are gone."""
    await call.service.engine.job_edits.delete(job_id, tenant=call.principal.tenant)
    response = quart.Response(b"", 204)
    del response.headers["Content-Type"]
    return response


ENDPOINTS = (update_job, retry_job, delete_job)


def _answer(job: Job) -> quart.Response:
    return json_response(200, job_body(job), {"ETag": f'"{job.generation}-{job.seq}"'})


def _versions(headers: list[str]) -> list[str] | None:
    """The versions that `If-Match` names; None where any will do. A weak tag matches nothing here (RFC 9110, 13.1.1).

    Raises Refusal where the header is not what that document says.
    """
    given = ",".join(headers).strip()
    if not headers or given == "*":
        return None
    if not _TAGS.fullmatch(given):
        raise Refusal(BAD_REQUEST, 'If-Match must be *, or entity tags such as "1-4", divided by commas')
    return [tag for weak, tag in _EACH.findall(given) if not weak]
