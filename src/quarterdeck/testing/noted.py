"""Noted: stands in for a service while a handler runs inline. It takes what is submitted, and runs nothing."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

import msgspec

from quarterdeck.deck import Quarterdeck
from quarterdeck.domain.errors import JobNotFound, Unavailable
from quarterdeck.domain.events import Event
from quarterdeck.domain.job import DEFAULT_TENANT, Job
from quarterdeck.domain.jsonvalue import encode_result
from quarterdeck.domain.state import State
from quarterdeck.engine.handle import JobHandle
from quarterdeck.engine.stored import planned
from quarterdeck.testing.checking import Kinds

if TYPE_CHECKING:
    from quarterdeck.engine.service import Engine

_CURRENT: ContextVar[Noted | None] = ContextVar("quarterdeck_testing_noted", default=None)
"""What the handler that runs in this task submits to."""


class Noted:
    """Checks each submit as the service would, and notes the job that it would have stored in `jobs`.

    `results` says by kind what jobs that somebody waits for return: a JSON value, or a function of their arguments.
    """

    def __init__(self, kinds: Kinds, results: Mapping[str, Any]) -> None:
        self.jobs: list[Job] = []
        self._kinds = kinds
        self._results = results

    async def submit_by_name(
        self,
        kind: str,
        args: Mapping[str, Any] | None = None,
        *,
        tenant: str = DEFAULT_TENANT,
        parent: uuid.UUID | None = None,  # noqa: ARG002 - given by the context, as by the service's
        **options: Any,
    ) -> JobHandle:
        """Notes a job; one whose unique key is taken finds the earlier one. Raises SubmitError."""
        new = self._kinds.check(kind, args, options, tenant=tenant)
        job = planned(new, dt.datetime.now(dt.UTC))
        holder = next((each for each in self.jobs if _same_key(each, job)), None)
        if holder is None:
            self.jobs.append(job)
        return JobHandle(self, (holder or job).id, tenant)

    async def get(self, job_id: uuid.UUID, *, tenant: str = DEFAULT_TENANT) -> Job:
        """The noted job. Raises JobNotFound."""
        for job in self.jobs:
            if job.id == job_id and job.tenant == tenant:
                return job
        raise JobNotFound(f"job {job_id} was not submitted by this handler")

    async def wait(self, job_id: uuid.UUID, timeout: float | None, *, tenant: str = DEFAULT_TENANT) -> Job:  # noqa: ARG002 - nothing is waited for
        """The job with the result that the test gives its kind. Raises RuntimeError where it gives none."""
        job = await self.get(job_id, tenant=tenant)
        if job.terminal:
            return job
        if job.kind not in self._results:
            raise RuntimeError(
                f"a handler that runs inline waits for a job of kind {job.kind!r}, which is noted and not run:"
                f" say what it returns, results={{{job.kind!r}: …}}, or run both on a workbench"
            )
        answer = self._results[job.kind]
        result = encode_result(answer(**job.args) if callable(answer) else answer)
        return self._change(job, state=State.COMPLETED, result=msgspec.Raw(result.encode()))

    async def events(
        self, job_id: uuid.UUID, *, after: int = 0, tenant: str = DEFAULT_TENANT
    ) -> AsyncGenerator[Event, None]:
        """Jobs that do not run have no events. Raises RuntimeError."""
        job = await self.get(job_id, tenant=tenant)
        none: list[Event] = []
        for event in none[after:]:
            yield event
        raise RuntimeError(f"a job of kind {job.kind!r} that is noted and not run has no events: use a workbench")

    async def cancel(self, job_id: uuid.UUID, *, tenant: str = DEFAULT_TENANT) -> Job:
        """The noted job, cancelled unless it has ended. Raises JobNotFound."""
        job = await self.get(job_id, tenant=tenant)
        return job if job.terminal else self._change(job, state=State.CANCELLED)

    def _change(self, job: Job, **changes: Any) -> Job:
        changed = msgspec.structs.replace(job, finalized_at=dt.datetime.now(dt.UTC), seq=job.seq + 1, **changes)
        self.jobs[self.jobs.index(job)] = changed
        return changed


class StandIn:
    """In the place of a deck's engine: submits go to the handler that runs inline in this task, others to the engine.

    It stays attached. A task that runs nothing inline does not notice it.
    """

    def __init__(self, behind: Engine | None) -> None:
        self._behind = behind

    @property
    def jobs(self) -> Any:
        """What takes the submits of this task. Raises Unavailable where nothing does."""
        noted = _CURRENT.get()
        if noted is not None:
            return noted
        if self._behind is None:
            raise Unavailable("the service of this deck does not run in this process")
        return self._behind.jobs


@contextmanager
def noting(deck: Quarterdeck, noted: Noted) -> Iterator[None]:
    """Within it, tasks that are started take what is submitted to `deck` to `noted`."""
    if not isinstance(deck.engine, StandIn):
        deck.attach(cast("Engine", StandIn(deck.engine)))
    token = _CURRENT.set(noted)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def _same_key(earlier: Job, job: Job) -> bool:
    if job.unique_key is None or earlier.terminal:
        return False
    return (earlier.tenant, earlier.queue, earlier.unique_key) == (job.tenant, job.queue, job.unique_key)
