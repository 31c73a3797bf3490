"""What types cannot say of themselves, for the interface's description: meanings of fields, limits, examples.

A field's note is looked up as `Type.field`, then as `field`. Limits are made from the constants that the checks use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from quarterdeck.domain.duration import MAX_SECONDS
from quarterdeck.domain.queue import LATER
from quarterdeck.domain.submission import MAX_ATTEMPTS, MAX_TAG_CHARACTERS, MAX_TAGS, NAME
from quarterdeck.domain.template import MAX_KEY_CHARACTERS
from quarterdeck.domain.unique import MAX_BY


class Note(msgspec.Struct, frozen=True):
    """What a field means, and keywords of JSON Schema that its type lacks; `instead` replaces the type's own schema."""

    meaning: str
    keywords: Mapping[str, Any] = {}
    instead: Mapping[str, Any] | None = None


class TypeNote(msgspec.Struct, frozen=True):
    """What a type is, the name it goes by outside where that is another, and an example."""

    meaning: str
    name: str = ""
    example: Any = None


def _amounts(*units: str) -> str:
    """Amounts in units from the largest to the smallest, at least one of them."""
    number = "[0-9]+(\\.[0-9]+)?"
    ways = []
    for at, unit in enumerate(units):
        rest = "".join(f"({number}{smaller})?" for smaller in units[at + 1 :])
        ways.append(f"{number}{unit}{rest}")
    return f"({'|'.join(ways)})"


DURATION = (
    f"^({_amounts('d', 'h', 'm', 's', 'ms')}"
    f"|P({_amounts('W', 'D')}(T{_amounts('H', 'M', 'S')})?|T{_amounts('H', 'M', 'S')}))$"
)
"""Durations in text: the short form and ISO 8601's."""
NAME_KEYWORDS = {"pattern": f"^{NAME.pattern}$"}
_TIME = {"format": "date-time"}
_COUNT = {"minimum": 0}
_PRIORITY = {"minimum": 0, "maximum": 9}
_ATTEMPTS = {"minimum": 1, "maximum": MAX_ATTEMPTS}
_TAG = {"minLength": 1, "maxLength": MAX_TAG_CHARACTERS}
_CURSOR = {"pattern": "^[A-Za-z0-9_-]+$"}

SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "Duration": {
        "title": "Duration",
        "description": "Seconds, or text such as `250ms`, `10s`, `5m`, `1h30m`, `1d`, `PT10S`; up to ten years",
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": MAX_SECONDS},
            {"type": "string", "pattern": DURATION, "maxLength": 64},
        ],
        "examples": [90, "10s", "PT1H30M"],
    },
    "Tags": {
        "title": "Tags",
        "type": "array",
        "maxItems": MAX_TAGS,
        "items": {"type": "string", **_TAG},
        "examples": [["tenant-7", "nightly"]],
    },
}
"""Schemas that no single type has."""

_TAGS = {"$ref": "#/components/schemas/Tags"}
_NULL = {"type": "null"}

FIELDS: Mapping[str, Note] = {
    # Jobs
    "id": Note("The id, a UUIDv7: later ones are greater"),
    "kind": Note("Which handler runs it", NAME_KEYWORDS),
    "queue": Note("Where it waits", NAME_KEYWORDS),
    "state": Note("Where it stands"),
    "state_reason": Note("Why, where the state does not say it"),
    "state_detail": Note("The same in words, for example the text of a `Cancel`"),
    "args": Note("The arguments of the handler"),
    "priority": Note("0 to 9, lower runs first", _PRIORITY),
    "attempt": Note("Attempts that count, the running one included", _COUNT),
    "max_attempts": Note("How many attempts it may have", _ATTEMPTS),
    "generation": Note("1, and one more each time it is retried by hand", {"minimum": 1}),
    "crashes": Note("How many workers were lost while they ran it", _COUNT),
    "timeout": Note("Seconds that one attempt may take; null: as long as it likes", _COUNT),
    "created_at": Note("When it was stored", _TIME),
    "run_at": Note("When it is, or was, due", _TIME),
    "expires_at": Note("When it is discarded if it has not started by then", _TIME),
    "attempted_at": Note("When the last attempt started", _TIME),
    "finalized_at": Note("When it ended", _TIME),
    "tags": Note("Words of the submitter's own", instead=_TAGS),
    "metadata": Note("Anything of the submitter's own; at most 16 KiB"),
    "unique_key": Note("What no other unfinished job of its queue may have too"),
    "concurrency_key": Note("Jobs with the same key run one at a time, or as many as the queue's settings say"),
    "workflow_id": Note("The workflow that it belongs to"),
    "cached_from": Note("The job that its result was taken from"),
    "progress": Note("How far it is", instead={"anyOf": [{"$ref": "#/components/schemas/Progress"}, _NULL]}),
    "result": Note("What the handler returned; null until then", instead={}),
    "errors": Note(
        "The failed attempts, the oldest first",
        instead={"type": "array", "items": {"$ref": "#/components/schemas/JobError"}},
    ),
    "worker": Note("Which process runs it, or ran it last when it ended while running"),
    "seq": Note("Grows by one with every stored event of the job", {"minimum": 1}),
    "Progress.fraction": Note("From 0 to 1", {"minimum": 0, "maximum": 1}),
    "Progress.message": Note("The same in words"),
    "JobError.attempt": Note("Which attempt failed", _COUNT),
    "JobError.at": Note("When", _TIME),
    "JobError.type": Note("The class of the exception; `TimeoutError` for an attempt that took too long"),
    "JobError.message": Note("Its text"),
    "JobError.traceback": Note("Where it came from"),
    # Submits
    "Submit.args": Note("Its arguments, checked against the signature; at most 1 MiB"),
    "Submit.run_at": Note("Not before then; with its time zone", _TIME),
    "Submit.delay": Note("Not before so much time has passed; not together with `run_at`"),
    "Submit.expires_at": Note("Discard it if it has not started by then; with its time zone", _TIME),
    "Submit.ttl": Note("The same, counted from when it is due; not together with `expires_at`"),
    "Submit.timeout": Note("How long one attempt may take; more than 0"),
    "Submit.tags": Note("Free for you to use", instead={"anyOf": [_TAGS, _NULL], "default": None}),
    "Submit.retry": Note("How long to wait between attempts"),
    "Submit.unique": Note("`true`: no second unfinished job of the same kind and args; or an object with more choices"),
    "RetryOption.backoff": Note("How the delay grows; of an array the last one repeats"),
    "RetryOption.base": Note("The first delay; 2 seconds where it is not given"),
    "RetryOption.cap": Note("The longest delay; 1 hour where it is not given"),
    "RetryOption.jitter": Note("Whether the delay is drawn between 0 and the computed one"),
    "UniqueOption.key": Note(
        "The key itself, a template over args such as `customer:{customer_id}`; not together with `by`",
        {"minLength": 1, "maxLength": MAX_KEY_CHARACTERS},
    ),
    "UniqueOption.by": Note(
        "What the key is made of: `kind`, `queue`, `args`, or names of arguments", {"minItems": 1, "maxItems": MAX_BY}
    ),
    "UniqueOption.period": Note("How long the key stays taken after the submit, even if the job ends before"),
    # Problems
    "Problem.type": Note("Which problem it is, as a path that leads to a page about it"),
    "Problem.title": Note("The problem in words"),
    "Problem.status": Note("The status of the answer", {"minimum": 400, "maximum": 599}),
    "Problem.detail": Note("What it is in this case"),
    "Problem.errors": Note("The findings, each with its place in the body"),
    "Problem.state": Note("The state of the job that has no result"),
    "Problem.state_reason": Note("Why it is in that state"),
    "Problem.error_id": Note("Where the log of the service has the details"),
    "FieldError.pointer": Note("A JSON pointer (RFC 6901) into the body", {"format": "json-pointer"}),
    "FieldError.detail": Note("What is wrong there"),
    "ProblemPage.type": Note("What documents of this problem have as their `type`"),
    "ProblemPage.slug": Note("Its last part"),
    "ProblemPage.status": Note("The status of such an answer"),
    "ProblemPage.title": Note("The problem in words"),
    "ProblemPage.meaning": Note("What it says"),
    "ProblemPage.cause": Note("What is usually behind it"),
    "ProblemPage.remedy": Note("What to do about it"),
    "ProblemIndex.items": Note("Every problem, by status"),
    # Edits
    "Edit.args": Note("The arguments anew; at most 1 MiB"),
    "Edit.run_at": Note("Not before then; with its time zone", _TIME),
    # What handlers wrote
    "LogLine.at": Note("When it was logged", _TIME),
    "LogLine.level": Note("How grave it is"),
    "LogLine.message": Note("Its text"),
    "LogLine.seq": Note("The `seq` that the job got with it", {"minimum": 1}),
    "LogLine.attempt": Note("The attempt that logged it", _COUNT),
    "LogLine.generation": Note("The generation that logged it", {"minimum": 1}),
    "Output.at": Note("When it was put out", _TIME),
    "Output.data": Note("What was put out"),
    "Output.seq": Note("The `seq` that the job got with it", {"minimum": 1}),
    "Output.attempt": Note("The attempt that put it out", _COUNT),
    "Output.generation": Note("The generation that put it out", {"minimum": 1}),
    # Queues
    "QueueBody.name": Note("The name of the queue", NAME_KEYWORDS),
    "QueueBody.depth": Note("Its unfinished jobs by state"),
    "QueueBody.retention": Note("Seconds that ended jobs are kept; null: as long as the service keeps any"),
    "as_of": Note("The moment of the count; never more than half a second ago", _TIME),
    "oldest_available_age": Note(
        "Seconds that its oldest available job has been due; null where there is none", _COUNT
    ),
    "throughput": Note("Jobs that ended per second, over the last ten seconds", _COUNT),
    "paused": Note("Whether no more of its jobs are started"),
    "concurrency": Note("How many of its jobs may run at the same time, everywhere together"),
    "concurrency_per_key": Note("How many jobs of one concurrency key may run at the same time; 0: no limit", _COUNT),
    "rate": Note("How many of its jobs may start in a time, such as `100/1m`"),
    "rate_per_key": Note("How many jobs of one concurrency key may start in a time"),
    "retention": Note("How long ended jobs are kept"),
    "max_depth": Note("The number of unfinished jobs from which on submits are refused; null: none"),
    **{
        f"QueuePatch.{field}": Note("Not in this release: null, the default, is all it may be", instead=_NULL)
        for field in LATER
    },
    **{
        f"DepthBody.{state}": Note(f"Jobs that are {state}", _COUNT)
        for state in ("available", "running", "scheduled", "retryable", "pending")
    },
    # Kinds
    "KindBody.name": Note("The kind", NAME_KEYWORDS),
    "schema": Note("JSON Schema of the arguments"),
    "defaults": Note("The options of a submit, as far as the kind has them by default"),
    "live": Note("How many live workers run it", _COUNT),
    "first_seen": Note("When a worker first had a handler for it", _TIME),
    "last_seen": Note("When a worker last had one", _TIME),
    # Workers
    "WorkerBody.id": Note("The name under which the process claims jobs"),
    "host": Note("The machine that it runs on"),
    "pid": Note("Its process id there", _COUNT),
    "role": Note("Whether it serves HTTP, runs jobs, or both"),
    "queues": Note("The queues that it takes jobs from; null: every queue"),
    "kinds": Note("The kinds that it has handlers for"),
    "slots": Note("How many jobs it may run at the same time", _COUNT),
    "running": Note("How many it ran at its last heartbeat", _COUNT),
    "draining": Note("Whether it is stopping"),
    "version": Note("The release that it runs"),
    "started_at": Note("When it started", _TIME),
    "beat_at": Note("Its last heartbeat", _TIME),
    "lease_until": Note("When its jobs are given to others unless it beats again", _TIME),
    # Topics and tickets
    "Published.id": Note("The message's number in its topic: one more than that of the message before", {"minimum": 1}),
    "MessageBody.id": Note("Its number in its topic, without gaps, in the order of publication", {"minimum": 1}),
    "MessageBody.at": Note("When it was published", _TIME),
    "MessageBody.data": Note("What was published"),
    "MessagePage.items": Note("The page: newest first, or with `after` oldest first; it may hold fewer than `limit`"),
    "JobEventsQuery.after": Note("Events after the one with this `seq`, where `Last-Event-ID` does not say it", _COUNT),
    "EventsQuery.queue": Note("Follow the jobs of this queue", NAME_KEYWORDS),
    "EventsQuery.kind": Note("Follow the jobs of this kind", NAME_KEYWORDS),
    "EventsQuery.tag": Note("Follow the jobs with this tag"),
    "EventsQuery.workflow": Note("Follow the jobs of this workflow"),
    "EventsQuery.batch": Note("Follow the jobs of this batch"),
    "EventsQuery.topic": Note("Follow what is published to this topic", NAME_KEYWORDS),
    "EventsQuery.all": Note("Follow all jobs"),
    "EventsQuery.cursor": Note("The id of the last event that one has, where `Last-Event-ID` does not say it"),
    "ticket": Note("A ticket of `POST /v1/tickets`, in place of a key"),
    "MessagesQuery.after": Note("Messages after the one with this id, oldest first", _COUNT),
    "TicketLimits.job": Note("The one job that it lets watch"),
    "TicketLimits.tag": Note("The one tag whose jobs it lets watch", _TAG),
    "TicketLimits.topic": Note("The one topic that it lets watch", NAME_KEYWORDS),
    "TicketBody.ticket": Note("The ticket, a secret: the value of the parameter `ticket`"),
    "TicketBody.expires_at": Note("Until when it can be used", _TIME),
    # Health
    "Live.status": Note("`failed`: an inner loop died, and the process is about to end"),
    "Ready.status": Note("Whether work is taken"),
    "Ready.database": Note("Whether the database answers"),
    "Ready.engine": Note("How it stands with the workers and loops of this process"),
    # Lists and queries
    "items": Note("The page, newest first; it may hold fewer than `limit`"),
    "next": Note("The `cursor` of the next page; null after the last", _CURSOR),
    "limit": Note("How many items a page may hold"),
    "cursor": Note("Where the page begins: the `next` of the page before", _CURSOR),
    "tag": Note("Jobs with this tag; may be repeated: with all of them"),
    "JobsQuery.state": Note("Jobs in this state; may be repeated: in any of them"),
    "JobsQuery.kind": Note("Jobs of this kind", NAME_KEYWORDS),
    "JobsQuery.queue": Note("Jobs in this queue", NAME_KEYWORDS),
    "JobsQuery.workflow_id": Note("Jobs of this workflow"),
    "JobsQuery.args": Note("A JSON object that the args contain; only together with `kind` or `queue`"),
    "created_after": Note("Jobs stored after then", _TIME),
    "created_before": Note("Jobs stored before then", _TIME),
    "dry_run": Note("Check everything, store nothing, and answer 200 with the job as it would be"),
}

PARAMETERS: Mapping[str, Note] = {
    "id": Note("The id of a job"),
    "name": Note("The name of the queue", NAME_KEYWORDS),
    "/v1/topics/{name}/messages name": Note("The name of the topic", NAME_KEYWORDS),
    "slug": Note("The last part of a problem's `type`"),
}
"""Parameters of paths; as `path name`, or as `name` for all paths."""

_JOB = {
    "id": "0193b5c0-7a1e-7c3d-9f00-3b1a2c4d5e6f",
    "kind": "quarterdeck.echo",
    "queue": "default",
    "state": "completed",
    "state_reason": None,
    "state_detail": None,
    "args": {"greeting": "hello"},
    "priority": 5,
    "attempt": 1,
    "max_attempts": 5,
    "generation": 1,
    "crashes": 0,
    "timeout": 900.0,
    "created_at": "2026-01-31T12:00:00.000Z",
    "run_at": "2026-01-31T12:00:00.000Z",
    "expires_at": None,
    "attempted_at": "2026-01-31T12:00:00.004Z",
    "finalized_at": "2026-01-31T12:00:00.009Z",
    "tags": ["trial"],
    "metadata": {},
    "unique_key": None,
    "concurrency_key": None,
    "workflow_id": None,
    "cached_from": None,
    "progress": None,
    "result": {"greeting": "hello"},
    "errors": [],
    "worker": None,
    "seq": 3,
}

TYPES: Mapping[str, TypeNote] = {
    "JobBody": TypeNote("A job. Times are RFC 3339 in UTC, `timeout` is seconds", "Job", _JOB),
    "State": TypeNote("Where a job stands; `completed`, `cancelled` and `discarded` are ends"),
    "Submit": TypeNote("What may be said about a job. What is left out comes from the defaults of its kind"),
    "RetryOption": TypeNote("How long to wait between attempts"),
    "UniqueOption": TypeNote("What makes two jobs the same"),
    "Problem": TypeNote("What went wrong (RFC 9457)"),
    "FieldError": TypeNote("A broken rule, and where"),
    "JobError": TypeNote("A failed attempt"),
    "Progress": TypeNote("How far a running job is"),
    "Edit": TypeNote("New values for fields of a waiting job. What is not given stays; nothing is merged", "JobEdit"),
    "QueueBody": TypeNote("A queue: how deep it is, and its settings", "Queue"),
    "DepthBody": TypeNote("Unfinished jobs by state", "Depth"),
    "QueuePatch": TypeNote("Changes of a queue's settings. What is not given stays; null goes back to the default"),
    "KindBody": TypeNote("A kind that a process ever had a handler for", "Kind"),
    "WorkerBody": TypeNote("A live process", "Worker"),
    "MessageBody": TypeNote("A message of a topic", "Message"),
    "TicketLimits": TypeNote("What a ticket is limited to: one of these, or, where none is given, nothing"),
    "TicketBody": TypeNote("A single-use ticket", "Ticket"),
}

BODIES: Mapping[str, Mapping[str, Any]] = {
    "POST /v1/jobs": {
        "simple": {"kind": "quarterdeck.echo", "args": {"greeting": "hello"}},
        "later": {
            "kind": "quarterdeck.echo",
            "args": {"greeting": "good morning"},
            "queue": "mail",
            "priority": 2,
            "delay": "5m",
            "ttl": "1h",
            "timeout": 30,
            "max_attempts": 3,
            "retry": {"backoff": ["10s", "1m", "10m"]},
            "tags": ["tenant-7"],
            "metadata": {"order": 1234},
        },
    },
    "PATCH /v1/jobs/{id}": {"urgent": {"priority": 0, "run_at": "2026-01-31T12:00:00Z"}},
    "PATCH /v1/queues/{name}": {"pause": {"paused": True}, "bound": {"max_depth": 10_000}},
    "POST /v1/topics/{name}/messages": {"an object": {"temperature": 21.5}, "a text": "hello"},
    "POST /v1/tickets": {"everything": {}, "a topic": {"topic": "news"}},
}
"""Bodies that a request may have, by route."""
