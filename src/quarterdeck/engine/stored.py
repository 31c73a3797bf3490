"""What a submit made: the job as it was stored, and first answers found again."""

from __future__ import annotations

import datetime as dt
import uuid

import msgspec

from quarterdeck.domain.errors import IdempotencyMismatch, Unavailable
from quarterdeck.domain.job import IdempotencyKey, Job, NewJob
from quarterdeck.domain.state import State
from quarterdeck.engine.meter import How
from quarterdeck.store.attempts import ClaimedJob
from quarterdeck.store.jobs import Answer, Inserted


class Submitted(msgspec.Struct, frozen=True):
    """What became of a submit: the job, and whether it is an earlier one (`duplicate`) or a first answer again."""

    job: Job
    duplicate: bool = False
    replayed: bool = False

    @property
    def how(self) -> How:
        """What it is counted as."""
        if self.duplicate or self.replayed:
            return "duplicate"
        return "handed_off" if self.job.state is State.RUNNING else "stored"


def replay(key: IdempotencyKey, answer: tuple[bytes, uuid.UUID, Answer]) -> Submitted:
    """The first answer again, exactly as it was. Raises IdempotencyMismatch where the body is another."""
    body_hash, _, kept = answer
    if body_hash != key.body_hash:
        raise IdempotencyMismatch("this idempotency key was used before, with another body")
    if kept.submit is not None and kept.facts is not None:
        return Submitted(as_job(kept.submit, kept.facts), replayed=True)
    if kept.job is None:
        raise Unavailable("the first request with this idempotency key has not been answered; try again")
    return Submitted(kept.job, duplicate=kept.duplicate, replayed=True)


def as_job(new: NewJob, fact: Inserted) -> Job:
    """The job as the insert made it."""
    running = fact.state is State.RUNNING
    return Job(
        id=new.id,
        kind=new.kind,
        queue=new.queue,
        state=fact.state,
        args=new.args,
        priority=new.priority,
        attempt=int(running),
        max_attempts=new.max_attempts,
        generation=1,
        crashes=0,
        timeout=new.timeout,
        created_at=fact.created_at,
        run_at=fact.run_at,
        expires_at=fact.expires_at,
        attempted_at=fact.attempted_at,
        tags=new.tags,
        metadata=new.metadata,
        unique_key=new.unique_key,
        errors=[],
        worker=fact.worker,
        seq=fact.seq,
        tenant=new.tenant,
    )


def planned(new: NewJob, now: dt.datetime) -> Job:
    """The job that an insert at `now` would make; its id is of no job."""
    run_at = new.run_at or now + dt.timedelta(seconds=new.delay or 0)
    expires_at = new.expires_at
    if expires_at is None and new.ttl is not None:
        expires_at = run_at + dt.timedelta(seconds=new.ttl)
    state = State.SCHEDULED if run_at > now else State.AVAILABLE
    return as_job(new, Inserted(new.id, state, 1, now, run_at, expires_at, None))


def claimed_from(new: NewJob, job: Job) -> ClaimedJob:
    """The job as an executor takes it, where the insert handed it off."""
    return ClaimedJob(
        new.id,
        1,
        new.kind,
        new.queue,
        new.args,
        1,
        new.max_attempts,
        new.timeout,
        new.retry,
        new.tenant,
        job.run_at,
        lambda: job,
    )
