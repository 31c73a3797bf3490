"""What a caller may say about a job, the rules it must keep, and how it becomes a NewJob."""

from __future__ import annotations

import datetime as dt
import math
import re
import uuid
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from quarterdeck.domain import jsonvalue
from quarterdeck.domain.duration import parse_duration
from quarterdeck.domain.errors import FieldError, InvalidSubmit
from quarterdeck.domain.job import (
    DEFAULT_MAX_ATTEMPTS,
    DEFAULT_PRIORITY,
    DEFAULT_QUEUE,
    DEFAULT_TENANT,
    DEFAULT_TIMEOUT,
    NewJob,
)
from quarterdeck.domain.retry import RetryPolicy
from quarterdeck.domain.unique import UniqueOption, unique_key

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")
MAX_TAGS = 32
MAX_TAG_CHARACTERS = 128
MAX_METADATA_BYTES = 16 * 1024
MAX_ARGS_BYTES = 1024 * 1024
MAX_ATTEMPTS = 1000
YEARS = range(1970, 9000)

# Part of the interface, built by later releases; refused until then, never ignored.
_LATER = ("concurrency_key", "cache", "webhook")

Duration = float | int | str


class RetryOption(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The option `retry`; see RetryPolicy."""

    backoff: Literal["exponential", "linear", "fixed"] | list[Duration] = "exponential"
    base: Duration | None = None
    cap: Duration | None = None
    jitter: bool | None = None


class Submit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a submit, as it comes from strict JSON: nothing in it is such that it could not be stored."""

    kind: str
    args: dict[str, Any] = {}
    queue: str | None = None
    priority: int | None = None
    run_at: dt.datetime | None = None
    delay: Duration | None = None
    expires_at: dt.datetime | None = None
    ttl: Duration | None = None
    timeout: Duration | None = None
    max_attempts: int | None = None
    retry: RetryOption | None = None
    unique: bool | UniqueOption | None = None
    concurrency_key: msgspec.UnsetType | Any = msgspec.UNSET
    cache: msgspec.UnsetType | Any = msgspec.UNSET
    webhook: msgspec.UnsetType | Any = msgspec.UNSET
    tags: list[str] | None = None
    metadata: dict[str, Any] | None = None


class SubmitFromPython(Submit, frozen=True):
    """The same from Python, where `args` and `metadata` may hold anything."""


class KindDefaults(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Options of a kind, used where a submit does not give them. Durations are seconds."""

    queue: str = DEFAULT_QUEUE
    priority: int = DEFAULT_PRIORITY
    timeout: float | None = DEFAULT_TIMEOUT
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    retry: RetryPolicy | None = None
    ttl: float | None = None
    tags: list[str] = []
    unique: bool | UniqueOption | None = None

    @classmethod
    def of(cls, kind: str, options: Mapping[str, Any]) -> KindDefaults:
        """The defaults declared by a handler. Raises InvalidSubmit where one breaks a rule."""
        given = {name: value for name, value in options.items() if value is not None}
        body = parse({"kind": kind, **given})
        # What a key is made of is known only when there are arguments.
        job = resolve(msgspec.structs.replace(body, unique=None), cls(), uuid.UUID(int=0))
        retry = msgspec.convert(job.retry, RetryPolicy) if job.retry else None
        return cls(
            queue=job.queue,
            priority=job.priority,
            timeout=job.timeout,
            max_attempts=job.max_attempts,
            retry=retry,
            ttl=job.ttl,
            tags=job.tags,
            unique=body.unique,
        )


def parse(document: object) -> SubmitFromPython:
    """A document made in Python as a submit. Raises InvalidSubmit with a pointer to the first misfit."""
    if not isinstance(document, dict):
        raise InvalidSubmit([FieldError("", "expected an object")])
    try:
        return msgspec.convert(document, SubmitFromPython)
    except msgspec.ValidationError as error:
        raise InvalidSubmit([jsonvalue.locate(error)]) from None


def resolve(body: Submit, defaults: KindDefaults, job_id: uuid.UUID, *, tenant: str = DEFAULT_TENANT) -> NewJob:
    """Checks every rule and fills in the kind's defaults.

    Raises InvalidSubmit with all findings. Arguments are checked against the handler's signature elsewhere: only where
    the handler is known.
    """
    check = Check()
    for later in _LATER:
        if getattr(body, later) is not msgspec.UNSET:
            check.refuse(later, "not supported by this release")
    check.name("kind", body.kind)
    queue = defaults.queue if body.queue is None else body.queue
    check.name("queue", queue)
    check.among("priority", body.priority, 0, 9)
    check.among("max_attempts", body.max_attempts, 1, MAX_ATTEMPTS)
    delay = check.seconds("delay", body.delay)
    ttl = check.seconds("ttl", body.ttl)
    timeout = check.seconds("timeout", body.timeout, positive=True)
    if body.delay is not None and body.run_at is not None:
        check.refuse("delay", "given together with run_at")
    if body.ttl is not None and body.expires_at is not None:
        check.refuse("ttl", "given together with expires_at")
    check.moment("run_at", body.run_at)
    check.moment("expires_at", body.expires_at)
    tags = defaults.tags if body.tags is None else body.tags
    check.tags(tags)
    strict = not isinstance(body, SubmitFromPython)
    check.document("args", body.args, MAX_ARGS_BYTES, strict=strict)
    metadata = body.metadata or {}
    check.document("metadata", metadata, MAX_METADATA_BYTES, strict=strict)
    retry = check.retry(body.retry) if body.retry is not None else defaults.retry
    unique = _option(defaults.unique if body.unique is None else body.unique)
    period = check.seconds("unique/period", unique.period) if unique is not None else None
    if check.errors:
        raise InvalidSubmit(check.errors)
    key = None if unique is None else unique_key(unique, body.kind, queue, body.args)
    return NewJob(
        id=job_id,
        kind=body.kind,
        args=body.args,
        queue=queue,
        tenant=tenant,
        priority=defaults.priority if body.priority is None else body.priority,
        run_at=body.run_at,
        delay=delay,
        expires_at=body.expires_at,
        ttl=ttl if body.ttl is not None or body.expires_at is not None else defaults.ttl,
        timeout=defaults.timeout if body.timeout is None else timeout,
        max_attempts=defaults.max_attempts if body.max_attempts is None else body.max_attempts,
        retry=msgspec.to_builtins(retry) if retry is not None else None,
        tags=list(tags),
        metadata=metadata,
        unique_key=key,
        unique_period=period,
    )


def _option(unique: bool | UniqueOption | None) -> UniqueOption | None:  # noqa: FBT001 - as it stands in the document
    if isinstance(unique, UniqueOption):
        return unique
    return UniqueOption() if unique else None


class Check:
    """Collects findings about the fields of a document, so that a caller hears of all of them at once in `errors`."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []

    def refuse(self, field: str, detail: str) -> None:
        """A rule that `field` breaks; below it, with slashes."""
        self.errors.append(FieldError(f"/{field}", detail))

    def name(self, field: str, value: str) -> None:
        """Names of queues and kinds."""
        if not NAME.fullmatch(value):
            self.refuse(field, "must be 1 to 128 of A-Z a-z 0-9 _ . : - and begin with a letter, a digit or _")

    def among(self, field: str, value: int | None, least: int, greatest: int) -> None:
        """A number from `least` to `greatest`, if given."""
        if value is not None and not least <= value <= greatest:
            self.refuse(field, f"must be from {least} to {greatest}")

    def seconds(self, field: str, value: Duration | None, *, positive: bool = False) -> float | None:
        """A duration, if given; returned in seconds."""
        if value is None:
            return None
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            self.refuse(field, str(error))
            return None
        if positive and seconds == 0:
            self.refuse(field, "must be more than 0")
        return seconds

    def moment(self, field: str, value: dt.datetime | None) -> None:
        """A time with its zone, if given."""
        if value is None:
            return
        if value.tzinfo is None:
            self.refuse(field, "must say its time zone, for example a final Z")
        elif value.year not in YEARS:
            self.refuse(field, f"must be from the years {YEARS.start} to {YEARS.stop - 1}")

    def tags(self, tags: list[str]) -> None:
        """The field `tags`."""
        if len(tags) > MAX_TAGS:
            self.refuse("tags", f"more than {MAX_TAGS} tags")
            return
        for index, tag in enumerate(tags):
            if not 1 <= len(tag) <= MAX_TAG_CHARACTERS:
                self.refuse(f"tags/{index}", f"must be 1 to {MAX_TAG_CHARACTERS} characters")
        self.errors += jsonvalue.check(tags, ("tags",))

    def document(self, field: str, value: dict[str, Any], limit: int, *, strict: bool = False) -> None:
        """An object that can be stored and takes at most `limit` bytes; `strict` if it comes from strict JSON."""
        flaws = [] if strict else jsonvalue.check(value, (field,))
        self.errors += flaws
        if not flaws and (size := len(msgspec.json.encode(value))) > limit:
            self.refuse(field, f"takes {size} bytes of JSON; the limit is {limit}")

    def retry(self, option: RetryOption) -> RetryPolicy:
        """The field `retry`."""
        base = self.seconds("retry/base", option.base)
        cap = self.seconds("retry/cap", option.cap)
        backoff: Any = option.backoff
        if isinstance(backoff, list):
            if not 1 <= len(backoff) <= MAX_ATTEMPTS:
                self.refuse("retry/backoff", f"must hold 1 to {MAX_ATTEMPTS} delays")
                return RetryPolicy()
            delays = [self.seconds(f"retry/backoff/{index}", delay) for index, delay in enumerate(backoff)]
            backoff = tuple(delay for delay in delays if delay is not None and math.isfinite(delay))
        policy = RetryPolicy(backoff=backoff, jitter=option.jitter)
        if base is not None:
            policy = msgspec.structs.replace(policy, base=base)
        if cap is not None:
            policy = msgspec.structs.replace(policy, cap=cap)
        return policy
