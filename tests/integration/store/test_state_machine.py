"""Two workers, one database, statements in any order: what is stored is always what a simple model says.

Workers may lose their leases and go on as if nothing had happened: whatever they claimed before, they try to end.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from quarterdeck.domain.outcome import Transition
from quarterdeck.domain.state import Reason
from quarterdeck.store.attempts import ClaimedJob
from quarterdeck.store.job_edits import JobEditStore
from tests.support.factories import EVERY_KIND, Stores, ended, error_record, history, new_job, open_stores

TENANT, QUEUE = "default", "default"
WORKERS = (0, 1)
WAITING = ("scheduled", "available", "retryable")
TERMINAL = ("completed", "cancelled", "discarded")
PAUSE = """
    insert into quarterdeck.queue (name, paused) values ($1, $2) on conflict (name) do update set paused = $2
"""
ENDS = {
    "complete": Transition.complete("1"),
    "fail": Transition.retry(3600.0, None, error_record()),
    "snooze": Transition.snooze(3600.0),
    "give back": Transition.interrupt(),
    "discard": Transition.discard(Reason.ATTEMPTS_EXHAUSTED, error_record()),
    "reject": Transition.discard(Reason.REJECTED, error_record(), "no use"),
}


class Model(msgspec.Struct):
    """What is to be true of one job."""

    priority: int
    state: str = "available"
    attempt: int = 0
    crashes: int = 0
    generation: int = 1
    fence: int = 0
    worker: str | None = None
    cancelling: bool = False
    events: list[str] = msgspec.field(default_factory=lambda: ["submitted"])

    def moved(self, state: str, event: str, *, refund: bool = False, crashed: bool = False) -> None:
        """It is not run any more, or did not run."""
        self.state, self.worker, self.cancelling = state, None, self.cancelling and state in TERMINAL
        self.attempt -= refund
        self.crashes += crashed
        self.events.append(event)


class Machine(RuleBasedStateMachine):
    """The rules. Every one runs statements and says what they are to do."""

    def __init__(self, stores: Stores, run: Any) -> None:
        super().__init__()
        self.stores = stores
        self.run: Any = run
        self.jobs: dict[Any, Model] = {}
        self.claims: dict[int, list[ClaimedJob]] = {each: [] for each in WORKERS}
        self.names: dict[int, str] = {}
        self.paused = False
        self.run(self._begin())

    async def _begin(self) -> None:
        for table in ("job", "job_history", "worker", "queue"):
            await self.stores.execute(f"delete from quarterdeck.{table}")
        for each in WORKERS:
            self.names[each] = await self.stores.register()

    def _in(self, *states: str) -> list[Any]:
        return [job_id for job_id, job in self.jobs.items() if job.state in states]

    def _started(self, worker: int, claimed: list[ClaimedJob]) -> None:
        for each in claimed:
            job = self.jobs[each.id]
            job.state, job.worker = "running", self.names[worker]
            job.attempt, job.fence = job.attempt + 1, job.fence + 1
            job.events.append("started")
            assert (each.attempt, each.fence) == (job.attempt, job.fence)
        self.claims[worker] += claimed

    # Callers

    @rule(priority=st.integers(0, 2))
    def submit(self, priority: int) -> None:
        job = new_job(priority=priority)
        self.run(self.stores.insert(job))
        self.jobs[job.id] = Model(priority)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        job_id = data.draw(st.sampled_from(list(self.jobs)))
        job = self.jobs[job_id]
        answer = self.run(self.stores.jobs.cancel_job(job_id, TENANT))
        if job.state in WAITING:
            job.moved("cancelled", "cancelled")
        elif job.state == "running" and not job.cancelling:
            job.cancelling = True
            job.events.append("cancel_requested")
        else:
            assert answer is None or job.state == "running"

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def retry(self, data: Any) -> None:
        job_id = data.draw(st.sampled_from(list(self.jobs)))
        job = self.jobs[job_id]
        retried = self.run(JobEditStore(self.stores.source).retry_job(job_id, TENANT))
        assert (retried is not None) == (job.state in (*TERMINAL, "scheduled", "retryable"))
        if job.state in TERMINAL:
            job.state, job.attempt, job.crashes, job.cancelling = "available", 0, 0, False
            job.generation += 1
            job.events.append("retried")
        elif retried is not None:
            job.moved("available", "available")

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def delete(self, data: Any) -> None:
        job_id = data.draw(st.sampled_from(list(self.jobs)))
        gone = self.run(JobEditStore(self.stores.source).delete_job(job_id, TENANT))
        assert gone == (self.jobs[job_id].state in TERMINAL)
        if gone:
            del self.jobs[job_id]

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.paused = paused
        self.run(self.stores.execute(PAUSE, QUEUE, paused))

    # Workers

    @rule(worker=st.sampled_from(WORKERS), limit=st.integers(1, 3))
    def claim(self, worker: int, limit: int) -> None:
        free = [] if self.paused else [job_id for job_id in self._in("available") if self.jobs[job_id].crashes < 2]
        claimed = self.run(self.stores.attempts.claim_jobs(QUEUE, limit, self.names[worker], EVERY_KIND))
        assert len(claimed) == min(limit, len(free))
        assert {each.id for each in claimed} <= set(free)
        left = [self.jobs[job_id].priority for job_id in free if job_id not in {each.id for each in claimed}]
        assert [self.jobs[each.id].priority for each in claimed] == sorted(
            self.jobs[each.id].priority for each in claimed
        )
        assert all(self.jobs[each.id].priority <= priority for each in claimed for priority in left)
        self._started(worker, claimed)

    @rule(worker=st.sampled_from(WORKERS))
    def claim_suspect(self, worker: int) -> None:
        suspects = [job_id for job_id in self._in("available") if self.jobs[job_id].crashes >= 2]
        picked = self.run(self.stores.attempts.pick_suspect(self.names[worker]))
        if picked is None:
            return
        assert picked in suspects
        assert not self.paused
        claimed = self.run(self.stores.attempts.claim_suspect(picked, self.names[worker]))
        self._started(worker, [claimed])

    @precondition(lambda self: any(self.claims.values()))
    @rule(data=st.data(), how=st.sampled_from(sorted(ENDS)))
    def end(self, data: Any, how: str) -> None:
        worker = data.draw(st.sampled_from([each for each in WORKERS if self.claims[each]]))
        claimed = data.draw(st.sampled_from(self.claims[worker]))
        job = self.jobs.get(claimed.id)
        transition = ENDS[how]
        reschedules = how in ("fail", "snooze", "give back")
        write = self.stores.attempts.reschedule_jobs if reschedules else self.stores.attempts.finish_jobs
        written = self.run(write([ended(claimed, transition)]))
        ours = job is not None and job.state == "running" and job.fence == claimed.fence
        assert bool(written) == (ours and not (reschedules and job.cancelling))
        if written:
            if job.cancelling and how != "complete":  # only a result wins over a cancel that was asked for
                job.moved("cancelled", "cancelled")
            else:
                job.moved(transition.state.value, transition.event, refund=transition.refund)
            self.claims[worker].remove(claimed)

    @rule(worker=st.sampled_from(WORKERS))
    def stop(self, worker: int) -> None:
        held = [job_id for job_id in self._in("running") if self.jobs[job_id].worker == self.names[worker]]
        released = self.run(self.stores.attempts.release_worker(self.names[worker]))
        given_back = [job_id for job_id in held if not self.jobs[job_id].cancelling]
        assert {row.id for row in released} == set(given_back)
        for job_id in given_back:
            self.jobs[job_id].moved("available", "interrupted", refund=True)

    @rule(worker=st.sampled_from(WORKERS))
    def lose(self, worker: int) -> None:
        """The lease ends, somebody rescues, and the worker goes on under a new id with what it thinks it holds."""
        lost = [job for job in self.jobs.values() if job.state == "running" and job.worker == self.names[worker]]
        self.run(self._lose(worker))
        for job in lost:
            if job.cancelling:
                job.moved("cancelled", "cancelled", refund=True, crashed=True)
            elif job.crashes >= 2:
                job.moved("discarded", "discarded", refund=True, crashed=True)
            else:
                job.moved("available", "rescued", refund=True, crashed=True)

    async def _lose(self, worker: int) -> None:
        name = self.names[worker]
        await self.stores.execute(
            "update quarterdeck.worker set lease_until = now() - interval '1 s' where id = $1", name
        )
        assert [lost.id for lost in await self.stores.upkeep.bury_workers()] == [name]
        await self.stores.upkeep.rescue_jobs(100)
        self.names[worker] = await self.stores.register()

    @rule()
    def promote(self) -> None:
        due = self._in("scheduled", "retryable")
        self.run(
            self.stores.execute("update quarterdeck.job set run_at = now() where state in ('scheduled', 'retryable')")
        )
        promoted = self.run(self.stores.upkeep.promote_jobs(100))
        assert {row.id for row in promoted} == set(due)
        for job_id in due:
            self.jobs[job_id].moved("available", "available")

    # What is stored

    @invariant()
    def is_as_the_model_says(self) -> None:
        self.run(self._compare())

    async def _compare(self) -> None:
        seen = 0
        for table, states in (("job", ("running", *WAITING)), ("job_history", TERMINAL)):
            for row in await self.stores.fetch(f"select * from quarterdeck.{table}"):
                seen += 1
                job = self.jobs[row["id"]]
                assert job.state in states
                stored = (row["state"], row["attempt"], row["crashes"], row["generation"], row["fence"])
                assert stored == (job.state, job.attempt, job.crashes, job.generation, job.fence)
                if table == "job":
                    assert (row["worker"], row["cancel_requested_at"] is not None) == (job.worker, job.cancelling)
                assert history(row) == job.events
        assert seen == len(self.jobs)


@pytest.mark.timeout(180)
def test_what_is_stored_is_what_the_model_says(database_url):
    with asyncio.Runner() as runner:

        def run(what: Coroutine[Any, Any, Any]) -> Any:
            return runner.run(asyncio.wait_for(what, 20))

        opened = open_stores(database_url)
        stores = run(opened.__aenter__())
        try:
            run_state_machine_as_test(
                lambda: Machine(stores, run),
                settings=settings(
                    max_examples=40,
                    stateful_step_count=40,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            run(opened.__aexit__(None, None, None))
