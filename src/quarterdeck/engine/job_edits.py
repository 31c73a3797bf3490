"""JobEdits: changes to jobs that callers ask for: change a waiting one, run an ended one again, forget it."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Sequence

import msgspec

from quarterdeck.domain.edit import Edit
from quarterdeck.domain.errors import (
    ArgsError,
    Conflict,
    InvalidSubmit,
    JobConflict,
    PreconditionFailed,
    Unavailable,
)
from quarterdeck.domain.job import DEFAULT_TENANT, Job
from quarterdeck.domain.state import State
from quarterdeck.engine.calls import Calls
from quarterdeck.engine.reader import Reader
from quarterdeck.engine.registry import Registry
from quarterdeck.store.job_edits import Edited, JobEditStore, Refusal

TRIES = 5
"""How often a job that moves between a look and a lock is looked at again."""

_KEY_TAKEN = "another job has its unique key now"


class JobEdits:
    """Update, retry and delete. Every method raises JobNotFound, JobConflict, and Unavailable without the database."""

    def __init__(
        self,
        store: JobEditStore,
        *,
        calls: Calls,
        reader: Reader,
        registry: Registry,
        work: Callable[[Sequence[str]], None],
        due: Callable[[dt.datetime], None],
        changed: Callable[[uuid.UUID], None],
    ) -> None:
        """`work` hears of queues that have work now, `due` of moments when a job will be."""
        self._store = store
        self._calls = calls
        self._reader = reader
        self._registry = registry
        self._work = work
        self._due = due
        self._changed = changed

    async def update(
        self, job_id: uuid.UUID, edit: Edit, *, tenant: str = DEFAULT_TENANT, versions: Sequence[str] | None = None
    ) -> Job:
        """Changes a waiting job, if it is in one of `versions` ("generation-seq"; None: in any).

        Raises InvalidSubmit, PreconditionFailed.
        """
        self._calls.require_open()
        edit.check()
        for _ in range(TRIES):
            await self._check_args(job_id, edit, tenant)
            edited = await self._calls.call(self._store.update_job(job_id, tenant, edit, versions))
            if edited is not None:
                if edited.refusal is not None:
                    raise _refused(job_id, edited.refusal)
                return self._told(edited) or await self._reader.get(job_id, tenant)
            job = await self._reader.get(job_id, tenant)
            if job.terminal:
                raise _ended(job, "it cannot be changed any more")
        raise _too_fast()

    async def retry(self, job_id: uuid.UUID, *, tenant: str = DEFAULT_TENANT) -> Job:
        """Runs an ended job again, as a new generation of it, or a scheduled or retryable one now."""
        self._calls.require_open()
        for _ in range(TRIES):
            retried = await self._calls.call(self._store.retry_job(job_id, tenant))
            if retried is not None:
                if retried.job is None:
                    raise JobConflict(Conflict.UNIQUE_KEY_TAKEN, f"job {job_id} cannot run again: {_KEY_TAKEN}")
                self._changed(job_id)
                self._work([retried.job.queue])
                return retried.job
            job = await self._reader.get(job_id, tenant)
            if job.state is State.RUNNING:
                raise JobConflict(Conflict.RUNNING, f"job {job_id} runs already", job.state)
            if job.state in (State.AVAILABLE, State.PENDING):
                raise JobConflict(Conflict.WAITING, f"job {job_id} is {job.state.value} already", job.state)
        raise _too_fast()

    async def delete(self, job_id: uuid.UUID, *, tenant: str = DEFAULT_TENANT) -> None:
        """Forgets an ended job, with its logs and outputs."""
        self._calls.require_open()
        for _ in range(TRIES):
            if await self._calls.call(self._store.delete_job(job_id, tenant)):
                self._changed(job_id)
                return
            job = await self._reader.get(job_id, tenant)
            if not job.terminal:
                conflict = Conflict.RUNNING if job.state is State.RUNNING else Conflict.WAITING
                raise JobConflict(conflict, f"job {job_id} is {job.state.value}: cancel it first", job.state)
        raise _too_fast()

    async def _check_args(self, job_id: uuid.UUID, edit: Edit, tenant: str) -> None:
        if edit.args is msgspec.UNSET:
            return
        handler = self._registry.get((await self._reader.get(job_id, tenant)).kind)
        if handler is not None:
            try:
                handler.bind(edit.args)
            except ArgsError as error:
                raise InvalidSubmit([error.error]) from None

    def _told(self, edited: Edited) -> Job | None:
        job = edited.job
        if job is not None:
            self._changed(job.id)
        if job is not None and job.state is State.AVAILABLE:
            self._work([job.queue])
        elif job is not None and job.state in (State.SCHEDULED, State.RETRYABLE):
            self._due(job.run_at)
        return job


def _refused(job_id: uuid.UUID, refusal: Refusal) -> Exception:
    match refusal:
        case "version":
            return PreconditionFailed(f"job {job_id} has changed since")
        case "running":
            return JobConflict(Conflict.RUNNING, f"job {job_id} runs: it cannot be changed now", State.RUNNING)
        case "started":
            return JobConflict(Conflict.STARTED, f"job {job_id} has started once: its queue cannot be changed any more")
        case "unique":
            return JobConflict(Conflict.UNIQUE_KEY_TAKEN, f"job {job_id} cannot go to that queue: {_KEY_TAKEN}")


def _ended(job: Job, consequence: str) -> JobConflict:
    return JobConflict(Conflict.ENDED, f"job {job.id} is {job.state.value}: {consequence}", job.state)


def _too_fast() -> Unavailable:
    return Unavailable("the job changes too fast; try again")
