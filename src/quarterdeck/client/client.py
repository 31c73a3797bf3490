"""Client: a Quarterdeck service for async programs."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any, Self, TypeVar, overload
from urllib.parse import quote

import msgspec

from quarterdeck.client.channel import Channel
from quarterdeck.client.errors import Closed, JobCancelled, JobDiscarded
from quarterdeck.client.many import Many
from quarterdeck.client.models import Event, Gap, Job, LogLine, Message, Output
from quarterdeck.client.rest import Rest, address_of, headers_of
from quarterdeck.client.subscriptions import FeedSubscription, JobSubscription, Subscription, TopicSubscription
from quarterdeck.client.trust import trust
from quarterdeck.client.watch import Watch

Id = uuid.UUID | str
Submission = tuple[str, Mapping[str, Any] | None] | Mapping[str, Any]
"""A kind and its arguments, or what `POST /v1/jobs` takes, where `idempotency_key` may stand too."""

T = TypeVar("T")


class _Page(msgspec.Struct):
    items: list[Any]
    next: str | None


class _Published(msgspec.Struct):
    id: int


class Client:
    """A service at `url`. An async context manager: after it nothing of it runs.

    `timeout` is how long one request may take, in seconds. `patience` is how long a call goes on trying while the
    service is not there, is too busy or restarts; 0 is one try. A watch goes on for `outlast` seconds without a
    connection, once it had one: as long as it takes, unless something is given.

    Every method raises subclasses of QuarterdeckClientError.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout: float = 10.0,
        patience: float = 30.0,
        outlast: float = math.inf,
    ) -> None:
        """Raises ValueError where `url` is no URL, or `api_key` no key."""
        address, headers = address_of(url), headers_of(api_key)
        trusted = trust(address)
        self._rest = Rest(address, headers, trusted, timeout=timeout, patience=patience)
        self._channel = Channel(address, headers, trusted, timeout=timeout, patience=patience, outlast=outlast)
        self._many = Many()
        self._open = False

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._open = False
        await self._many.close()
        await self._channel.close()
        await self._rest.close()

    async def submit(
        self, kind: str, args: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None, **options: Any
    ) -> Job:
        """Submits a job, once however often it takes to get an answer, and returns it as it was stored.

        Options are those of `POST /v1/jobs`: queue, priority, delay, tags, and so on.
        """
        body = {"kind": kind, "args": dict(args or {}), **options}
        return await self._call("POST", "/v1/jobs", Job, body=body, key=idempotency_key or uuid.uuid4().hex)

    def submit_many(
        self, submissions: Iterable[Submission] | AsyncIterable[Submission], *, concurrency: int = 16
    ) -> AsyncGenerator[Job, None]:
        """Submits one job after the other, `concurrency` at a time, and gives the jobs in the same order.

        No more than `concurrency` submissions are read ahead of the jobs that were taken. The first one that fails
        raises its error in its place; a few after it may have been submitted.
        """
        self._require_open()
        if concurrency < 1:
            raise ValueError("concurrency is a number from 1 on")
        return self._many.map(self._submit_one, submissions, concurrency)

    async def _submit_one(self, submission: Submission) -> Job:
        if isinstance(submission, Mapping):
            return await self.submit(**submission)
        kind, args = submission
        return await self.submit(kind, args)

    async def get(self, job_id: Id) -> Job:
        """The job as it is now."""
        return await self._call("GET", _job_path(job_id), Job)

    async def wait(self, job_id: Id, timeout: float | None = None) -> Job:
        """The job once it has ended. Raises TimeoutError where that takes longer than `timeout` seconds."""
        async with asyncio.timeout(timeout):
            while not (job := await self.get(job_id)).ended:
                async with self.watch(job=job_id, after=job.seq) as events:
                    async for _ in events:
                        pass
        return job

    async def result(self, job_id: Id, timeout: float | None = None) -> Any:
        """The result once the job has ended. Raises JobDiscarded, JobCancelled, TimeoutError."""
        job = await self.wait(job_id, timeout)
        if job.state == "completed":
            return job.result
        raise (JobCancelled if job.state == "cancelled" else JobDiscarded)(job)

    async def cancel(self, job_id: Id) -> Job:
        """Cancels a job that waits, or asks one that runs to stop; returns it as it is then."""
        return await self._call("POST", f"{_job_path(job_id)}/cancel", Job)

    async def retry(self, job_id: Id) -> Job:
        """Runs a job that has ended again, or one that waits for its time now."""
        return await self._call("POST", f"{_job_path(job_id)}/retry", Job, repeatable=False)

    async def publish(self, topic: str, data: Any) -> int:
        """Publishes a message to a topic, once, and returns its id."""
        path = f"/v1/topics/{quote(topic, safe='')}/messages"
        published = await self._call("POST", path, _Published, body=data, key=uuid.uuid4().hex)
        return published.id

    async def logs(self, job_id: Id) -> AsyncGenerator[LogLine, None]:
        """What the job's handler logged, newest first."""
        async for line in self._items(f"{_job_path(job_id)}/logs", LogLine):
            yield line

    async def outputs(self, job_id: Id) -> AsyncGenerator[Output, None]:
        """What the job's handler put out, newest first."""
        async for output in self._items(f"{_job_path(job_id)}/outputs", Output):
            yield output

    @overload
    def watch(self, *, job: Id, after: int | None = None) -> Watch[Event]: ...
    @overload
    def watch(self, *, topic: str, cursor: str | int | None = None) -> Watch[Message | Gap]: ...
    @overload
    def watch(
        self,
        *,
        queue: str | None = None,
        kind: str | None = None,
        tag: str | None = None,
        workflow: Id | None = None,
        batch: Id | None = None,
        all: bool = False,
        cursor: str | None = None,
    ) -> Watch[Event | Gap]: ...
    def watch(self, *, after: int | None = None, cursor: str | int | None = None, **target: Any) -> Watch[Any]:
        """What happens to a job, to all jobs that have something in common, or in a topic, as it happens.

        A job's events come from the first, or from the one after `after`; each once, in order, up to the one that ends
        it. The others come from now on, or from after `cursor`: an event's `cursor`, or a message's `id`. A restart of
        the service or a lost connection is no error: it goes on from where it was.
        """
        self._require_open()
        return Watch(self._channel, _subscription(target, after, cursor))

    async def _call(self, method: str, path: str, kind: type[T], **options: Any) -> T:
        self._require_open()
        return await self._rest.call(method, path, kind, **options)

    async def _items(self, path: str, kind: type[T]) -> AsyncIterator[T]:
        cursor: str | None = None
        while True:
            page = await self._call("GET", path, _Page, parameters={"cursor": cursor} if cursor else None)
            for item in page.items:
                yield msgspec.convert(item, kind)
            if page.next is None:
                return
            cursor = page.next

    def _require_open(self) -> None:
        if not self._open:
            raise Closed("the client is not open: use it inside `async with Client(…) as client`")


def _job_path(job_id: Id) -> str:
    return f"/v1/jobs/{quote(str(job_id), safe='')}"


def _subscription(target: Mapping[str, Any], after: int | None, cursor: str | int | None) -> Subscription:
    given = {name: value for name, value in target.items() if value is not None and value is not False}
    if len(given) != 1 or not given.keys() <= _TARGETS:
        raise TypeError(f"watch exactly one of {', '.join(sorted(_TARGETS))}")
    ((name, value),) = given.items()
    if (after if name != "job" else cursor) is not None:
        raise TypeError("`after` goes with a job, and `cursor` with everything else")
    if name == "job":
        return JobSubscription(str(value), after or 0)
    place = None if cursor is None else str(cursor)
    if name == "topic":
        return TopicSubscription(value, place)
    return FeedSubscription({name: True if name == "all" else str(value)}, place)


_TARGETS = frozenset({"job", "queue", "kind", "tag", "workflow", "batch", "topic", "all"})
