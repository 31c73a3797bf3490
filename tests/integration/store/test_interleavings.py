"""Every pair of statements about one job, the second sent while the first is not committed.

The oracle is what the two do one after the other: whatever they do together must be what they do in one of the two
orders. A statement that found the job locked or changed may also have done nothing, and have said so: its caller then
looks again.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from quarterdeck.domain.edit import Edit
from quarterdeck.domain.outcome import Transition
from quarterdeck.domain.state import Reason
from quarterdeck.store.attempts import ClaimedJob
from quarterdeck.store.job_edits import JobEditStore
from tests.support.factories import EVERY_KIND, completed, ended, error_record, history, new_job, open_stores

WORKER, OTHER, TENANT = "worker", "other", "default"
"""`WORKER` is registered nowhere: what it runs can be rescued. `OTHER` claims."""


class Case(msgspec.Struct):
    """A job in its first state, and the last claim of it."""

    id: Any
    claimed: ClaimedJob | None


Operation = Callable[[Any, Case], Awaitable[object]]


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


@pytest.fixture
async def oracle(stores):
    return Oracle(stores)


@pytest.fixture
async def writer(stores):
    """The connection of whoever comes first."""
    async with stores.connection() as connection:
        yield connection


NEVER_HELD = ("scheduled", "available", "late")
STARTS = (*NEVER_HELD, "running", "cancelling", "retryable", "completed", "discarded")
"""`late` is available and was not started in time; `cancelling` runs, and its cancel was asked for."""


async def claim(stores, case):
    return [job.attempt for job in await stores.attempts.claim_jobs("default", 10, OTHER, EVERY_KIND)]


async def finish(stores, case):
    return [row.state for row in await stores.attempts.finish_jobs([completed(case.claimed)])]


async def fail(stores, case):
    end = ended(case.claimed, Transition.retry(3600.0, None, error_record()))
    return [row.state for row in await stores.attempts.reschedule_jobs([end])]


async def snooze(stores, case):
    return [
        row.state for row in await stores.attempts.reschedule_jobs([ended(case.claimed, Transition.snooze(3600.0))])
    ]


async def give_back(stores, case):
    return [row.state for row in await stores.attempts.reschedule_jobs([ended(case.claimed, Transition.interrupt())])]


async def release(stores, case):
    return [row.state for row in await stores.attempts.release_worker(WORKER)]


async def rescue(stores, case):
    return [row.state for row in await stores.upkeep.rescue_jobs(10)]


async def promote(stores, case):
    return [row.state for row in await stores.upkeep.promote_jobs(10)]


async def expire(stores, case):
    return [row.state for row in await stores.upkeep.expire_jobs(10)]


async def cancel(stores, case):
    answer = await stores.jobs.cancel_job(case.id, TENANT)
    return answer and answer.state


async def retry(stores, case):
    retried = await JobEditStore(stores.source).retry_job(case.id, TENANT)
    return retried and retried.job and (retried.job.state, retried.job.generation)


async def update(stores, case):
    edited = await JobEditStore(stores.source).update_job(case.id, TENANT, Edit(priority=1), None)
    return edited and edited.job and edited.job.priority


async def delete(stores, case):
    return await JobEditStore(stores.source).delete_job(case.id, TENANT)


ANY_STATE = (claim, release, rescue, promote, expire, cancel, retry, update, delete)
BY_THE_HOLDER = (finish, fail, snooze, give_back)


async def prepare(stores, start) -> Case:
    """A job in the state `start`, and no other; due since a minute."""
    for table in ("job", "job_history"):
        await stores.execute(f"delete from quarterdeck.{table}")
    if start in NEVER_HELD:
        job = new_job(delay=3600.0 if start == "scheduled" else 0.0, ttl=30.0 if start == "late" else None)
        await stores.insert(job)
        case = Case(job.id, None)
    else:
        claimed = await stores.running(WORKER)
        case = Case(claimed.id, claimed)
        match start:
            case "cancelling":
                await cancel(stores, case)
            case "retryable":
                await fail(stores, case)
            case "completed":
                await finish(stores, case)
            case "discarded":
                end = ended(claimed, Transition.discard(Reason.ATTEMPTS_EXHAUSTED, error_record()))
                await stores.attempts.finish_jobs([end])
    await stores.execute(
        "update quarterdeck.job set run_at = now() - interval '1 minute', expires_at = expires_at - interval '1 minute'"
    )
    return case


async def picture(stores) -> object:
    """Everything about the job but times: the same where the same has happened."""
    rows = await stores.fetch("select * from quarterdeck.job") + await stores.fetch(
        "select * from quarterdeck.job_history"
    )
    assert len(rows) <= 1, "in both tables"
    names = (
        "state",
        "state_reason",
        "attempt",
        "crashes",
        "generation",
        "priority",
        "worker",
        "fence",
        "seq",
        "errors",
    )
    return [
        (*(str(row[name]) for name in names), row["cancel_requested_at"] is not None, *history(row)) for row in rows
    ]


class Oracle:
    """What operations answer and leave behind, one after the other; each order is tried once."""

    def __init__(self, stores):
        self._stores = stores
        self._known: dict[tuple[object, ...], tuple[object, ...]] = {}

    async def serially(self, start, *order: Operation) -> tuple[object, ...]:
        if (start, *order) not in self._known:
            case = await prepare(self._stores, start)
            answers = [await each(self._stores, case) for each in order]
            self._known[start, *order] = (await picture(self._stores), *answers)
        return self._known[start, *order]

    async def effective(self, start) -> list[Operation]:
        """The operations that change a job in that state."""
        untouched = await self.serially(start)
        return [each for each in possible(start) if (await self.serially(start, each))[0] != untouched[0]]


class Undone(Exception):
    """Ends a transaction without a commit."""


async def together(stores, writer, start, first: Operation, second: Operation, *, commit: bool) -> tuple[object, ...]:
    """What both answer and leave behind, the second sent before the first is committed, or undone."""
    case = await prepare(stores, start)
    waits = asyncio.create_task(stores.until_somebody_waits())
    try:
        async with stores.transaction_of(writer) as open_one:
            answer = await first(open_one, case)
            other = asyncio.create_task(second(stores, case))
            await asyncio.wait({other, waits}, return_when=asyncio.FIRST_COMPLETED)
            if not commit:
                raise Undone  # noqa: TRY301 - it is the transaction that is to see it
    except Undone:
        answer = None
    finally:
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
    answered = await asyncio.wait_for(other, 15)
    return await picture(stores), answer, answered


def possible(start) -> tuple[Operation, ...]:
    """What can be asked of a job in that state: who never held it cannot end it."""
    return ANY_STATE if start in NEVER_HELD else ANY_STATE + BY_THE_HOLDER


@pytest.mark.parametrize("start", STARTS)
async def test_two_statements_do_what_they_do_one_after_the_other(stores, oracle, writer, start, subtests):
    changing = await oracle.effective(start)
    assert len(changing) >= 2
    for first, second in itertools.product(changing, possible(start)):
        with subtests.test(f"{first.__name__}, then {second.__name__}"):
            seen = await together(stores, writer, start, first, second, commit=True)
            if seen == await oracle.serially(start, first, second):
                continue
            state, answer, answered = seen
            if (state, answered, answer) == await oracle.serially(start, second, first):
                continue
            assert not answered
            assert (state, answer) == await oracle.serially(start, first)


@pytest.mark.parametrize("start", STARTS)
async def test_a_statement_that_is_undone_leaves_nothing_to_the_one_that_waited(
    stores, oracle, writer, start, subtests
):
    changing = await oracle.effective(start)
    untouched = (await oracle.serially(start))[0]
    for first, second in itertools.product(changing, changing):
        with subtests.test(f"{first.__name__} undone, {second.__name__}"):
            state, _, b = await together(stores, writer, start, first, second, commit=False)
            assert (state, b) == await oracle.serially(start, second) or (not b and state == untouched)
