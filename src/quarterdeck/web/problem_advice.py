"""What each problem means, what is usually behind it, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from quarterdeck.domain.errors import FieldError


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """Words for one family of problems; `example` is the `detail` of one, and `errors` are its findings."""

    meaning: str
    cause: str
    remedy: str
    example: str
    errors: tuple[FieldError, ...] = ()


ADVICE: Mapping[str, Advice] = {
    "bad-request": Advice(
        meaning="The request cannot be understood as HTTP to this service.",
        cause="Its target is not a path of the host that it names, as when a proxy passes on the URL of another host.",
        remedy="Ask for a path, such as /v1/jobs, and let Host name the service.",
        example="The target of the request is not a path of the host it names",
    ),
    "bad-query": Advice(
        meaning="A parameter of the query string is unknown, is given twice, or does not fit.",
        cause="A misspelt name, a parameter of another route, or a value of the wrong type.",
        remedy="Compare the query with the parameters of the route; the detail names the one that is wrong.",
        example="Parameter 'dryrun': there is no such parameter here; there are: dry_run",
    ),
    "malformed-json": Advice(
        meaning="The body is not strict JSON.",
        cause="It ends too early, is not UTF-8, has a byte order mark, has a key twice, or holds NaN or Infinity.",
        remedy="Use a JSON library that writes standard JSON. The detail says at which byte it went wrong.",
        example="The body ends too early",
    ),
    "unauthenticated": Advice(
        meaning="The service needs an API key, and the request has none that it knows.",
        cause="No Authorization header, another scheme than Bearer, or a key that is wrong or was withdrawn.",
        remedy="Send Authorization: Bearer and the secret of a key.",
        example="Send Authorization: Bearer <key>",
    ),
    "forbidden": Advice(
        meaning="Who asks may not do this here.",
        cause="A page of another origin tried to write to a service without keys, or the key lacks a scope.",
        remedy="Write from the service's own pages or from a program, or use a key with the scope.",
        example="Pages of other origins may not write here",
    ),
    "not-found": Advice(
        meaning="There is nothing at this path, or nothing of this id or name that the caller may see.",
        cause="A misspelt path, an id that is no UUID, a job that was deleted, or one of another tenant.",
        remedy="Check the path and the id; ids come from the answer to the submit and from lists.",
        example="no job 0193b5c0-0000-7000-8000-000000000000",
    ),
    "method-not-allowed": Advice(
        meaning="The route is there, but not for this method.",
        cause="A GET where a POST is needed, or the other way round.",
        remedy="Use one of the methods that the header Allow lists.",
        example="Use one of: OPTIONS, POST",
    ),
    "request-timeout": Advice(
        meaning="The body did not come in time.",
        cause="A slow or broken connection, or a Content-Length larger than what was sent.",
        remedy="Send the request again.",
        example="The body took longer than 20 seconds",
    ),
    "job-cancelled": Advice(
        meaning="The result was asked for of a job that was cancelled.",
        cause="Somebody cancelled it, or its handler returned a Cancel. state_reason and the detail say more.",
        remedy="Look at the job. If it should run after all, retry it.",
        example="no longer needed",
    ),
    "job-discarded": Advice(
        meaning="The result was asked for of a job that was discarded.",
        cause="Its attempts failed, it expired, or its arguments do not fit. state_reason says which.",
        remedy="Look at the errors of the job, mend the cause, and retry it.",
        example="Job 0193b5c0-0000-7000-8000-000000000000 was discarded",
    ),
    "job-running": Advice(
        meaning="The job runs, and what was asked for cannot be done to a running job.",
        cause="It started in the meantime.",
        remedy="Wait for its end, or cancel it first.",
        example="The job is running",
    ),
    "job-ended": Advice(
        meaning="The job has ended, and what was asked for can only be done to a job that waits.",
        cause="It ended in the meantime.",
        remedy="Retry the job if it should run again, or submit another one.",
        example="The job has ended",
    ),
    "job-waiting": Advice(
        meaning="The job waits, and what was asked for can only be done to one that has ended or waits for its time.",
        cause="It has not had its turn yet.",
        remedy="Wait for its end, or cancel it first.",
        example="The job is waiting",
    ),
    "job-started": Advice(
        meaning="The job was started before, and its queue can no longer be changed.",
        cause="An attempt was made, and it waits for the next one.",
        remedy="Leave the queue out of the change; or cancel the job, and submit it anew to the other queue.",
        example="The job has started once, and its queue is fixed",
    ),
    "unique-key-taken": Advice(
        meaning="Another job has the unique key of this one now.",
        cause="The key became free when this job ended, or the change gives it another one, and another job has that.",
        remedy="Wait for the end of the other job, or cancel it.",
        example="Another job has the unique key now",
    ),
    "queue-full": Advice(
        meaning="The queue has as many unfinished jobs as its max_depth allows.",
        cause="Jobs come faster than they are worked off, or their workers stand still.",
        remedy="Send it again after Retry-After seconds, start more workers, or raise max_depth.",
        example="Queue 'mail' has 10000 unfinished jobs, its max_depth",
    ),
    "idempotency-in-flight": Advice(
        meaning="The first request with this Idempotency-Key is still being answered.",
        cause="The same request was sent again before its answer came.",
        remedy="Wait a moment, and send it again: it gets the first answer.",
        example="The first request with this key is still being answered",
    ),
    "idempotency-mismatch": Advice(
        meaning="The Idempotency-Key was used before, with another body.",
        cause="A key was made from something that two different requests have in common.",
        remedy="Use one key for one request: a new random one for each thing to be done, kept while it is tried again.",
        example="The key was used with another body",
    ),
    "job-gone": Advice(
        meaning="If there was a job of this id, it is older than the history that is kept.",
        cause="History is dropped a day at a time, and the id is of a day that was dropped.",
        remedy="Take what you need of a result while it is kept.",
        example="the history of 2026-03-01 and later is kept; job 019c5972-7800-7000-8000-000000000000 is older",
    ),
    "precondition-failed": Advice(
        meaning="The job has changed: its ETag is not the one that If-Match asks for.",
        cause="Somebody else changed it, or it moved on, after it was looked up.",
        remedy="Look it up again, decide anew, and send the new ETag.",
        example="The job is at 1-5 by now",
    ),
    "body-too-large": Advice(
        meaning="The body is over the limit of the route.",
        cause="Large arguments or results, or many jobs in one request.",
        remedy="Put large things where the handler can fetch them, and submit their address.",
        example="The limit is 1048576 bytes",
    ),
    "unsupported-media-type": Advice(
        meaning="The body is not sent as application/json.",
        cause="No Content-Type or another one, another character set than UTF-8, or a compressed body.",
        remedy="Send Content-Type: application/json, and no Content-Encoding.",
        example="Send Content-Type: application/json",
    ),
    "misdirected": Advice(
        meaning="The Host header names a host that this service does not serve.",
        cause="A service without keys serves loopback names and the host that it is bound to, so that pages of other "
        "sites cannot reach it under a name of theirs.",
        remedy="Use one of those names, or run the service with API keys.",
        example="The Host header names another host, or no host, or more than one",
    ),
    "invalid": Advice(
        meaning="The body is JSON, and breaks a rule.",
        cause="An unknown field, a value of the wrong type or out of its range, or fields that exclude each other.",
        remedy="Each of the errors points at a field and says what is wrong with it.",
        example="2 rules are broken",
        errors=(
            FieldError("/priority", "must be from 0 to 9"),
            FieldError("/max_attempts", "must be from 1 to 1000"),
        ),
    ),
    "unknown-kind": Advice(
        meaning="No process has ever registered a handler for this kind in this database.",
        cause="A misspelt kind, or the worker that has the handler was never started.",
        remedy="Check the kind, or start its worker: once it was there, jobs of the kind can wait for it.",
        example="no handler was ever registered for kind 'thumbnial'",
        errors=(FieldError("/kind", "unknown"),),
    ),
    "internal": Advice(
        meaning="Something unexpected went wrong.",
        cause="A fault of this program.",
        remedy="Look the error_id up in the log of the service, and report what it says.",
        example="An unexpected error; the log of the service has it under this id",
    ),
    "unavailable": Advice(
        meaning="The database cannot be reached, did not answer in time, or too many submits are waiting.",
        cause="A restart or an overload of the database. A submit may have been stored all the same.",
        remedy="Repeat the request after Retry-After seconds; with an Idempotency-Key no submit is stored twice.",
        example="the database cannot be reached",
    ),
    "draining": Advice(
        meaning="This process is stopping, and takes nothing new.",
        cause="A restart or a new release.",
        remedy="Repeat the request after Retry-After seconds; another process may be there already.",
        example="this process is stopping",
    ),
}
"""By the last part of the problem's type."""
