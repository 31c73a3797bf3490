"""JobHandle: a submitted job, as Python callers hold it."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Protocol

import msgspec

from quarterdeck.domain.errors import JobCancelled, JobDiscarded
from quarterdeck.domain.events import Event
from quarterdeck.domain.job import Job
from quarterdeck.domain.jsonvalue import decode_stored
from quarterdeck.domain.state import State

_LONGEST_WAIT = 30.0


class Jobs(Protocol):
    """What a handle asks of the engine."""

    async def get(self, job_id: uuid.UUID, *, tenant: str) -> Job:
        """The job as it is now."""

    async def wait(self, job_id: uuid.UUID, timeout: float | None, *, tenant: str) -> Job:
        """The job once it has ended, or as it is after `timeout` seconds."""

    def events(self, job_id: uuid.UUID, *, after: int, tenant: str) -> AsyncGenerator[Event, None]:
        """The job's events after some seq, up to the one that ends it."""

    async def cancel(self, job_id: uuid.UUID, *, tenant: str) -> Job:
        """Cancels the job."""


class JobHandle:
    """One submitted job: its `id`, and ways to wait for it."""

    __slots__ = ("_jobs", "_tenant", "id")

    def __init__(self, jobs: Jobs, job_id: uuid.UUID, tenant: str) -> None:
        self._jobs = jobs
        self._tenant = tenant
        self.id = job_id

    def __repr__(self) -> str:
        return f"JobHandle({self.id})"

    async def job(self) -> Job:
        """The job as it is now. Raises JobNotFound, Unavailable."""
        return await self._jobs.get(self.id, tenant=self._tenant)

    async def result(self, timeout: float | None = None) -> Any:
        """The result, once the job has completed.

        Raises JobDiscarded or JobCancelled (both JobFailed, with `.job`) where it ended otherwise, TimeoutError after
        `timeout` seconds, JobNotFound, Unavailable.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _LONGEST_WAIT if ends is None else min(_LONGEST_WAIT, ends - time.monotonic())
            job = await self._jobs.wait(self.id, max(0.0, left), tenant=self._tenant)
            match job.state:
                case State.COMPLETED:
                    return None if job.result is None else decode_stored(bytes(job.result))
                case State.DISCARDED:
                    raise JobDiscarded(job)
                case State.CANCELLED:
                    raise JobCancelled(job)
            if ends is not None and time.monotonic() >= ends:
                raise TimeoutError(f"job {self.id} is still {job.state.value} after {timeout:g} s")

    async def events(self, after: int = 0) -> AsyncIterator[Event]:
        """The job's events as they come, each once and in order, up to the one that ends it.

        They begin after the event with the number `after`. Values over 64 KiB in their `data` are only told by their
        size. Raises JobNotFound, also where the job is deleted meanwhile, and Draining when the service stops.
        """
        async with aclosing(self._jobs.events(self.id, after=after, tenant=self._tenant)) as events:
            async for event in events:
                yield msgspec.structs.replace(event, data=decode_stored(msgspec.json.encode(event.data)))

    async def cancel(self) -> Job:
        """Cancels the job, or asks it to stop where it runs. Raises JobNotFound, Unavailable."""
        return await self._jobs.cancel(self.id, tenant=self._tenant)
