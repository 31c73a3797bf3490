"""What holds for jobs that run and jobs that wait holds where the database executes statements and does not say so.

Every test of those two modules, once more: one statement in five is executed, committed, and then reported to the
engine as failed; one in twenty is not executed at all.
"""

import asyncio
import functools
import inspect
import os
import zlib

import pytest

from quarterdeck import Quarterdeck
from quarterdeck.config import Settings
from quarterdeck.domain.errors import Unavailable
from quarterdeck.engine.checker import Checker
from quarterdeck.engine.jobs import Jobs
from tests.integration.engine import test_running_jobs, test_waiting_jobs
from tests.support import running as running_module
from tests.support.faults.replies import LostReplies

SEED = int(os.environ.get("QD_FAULT_SEED", "1"))
LOST, UNSENT = 0.2, 0.05
START = ("ensure_partitions", "announce_kinds")
"""A start that fails is another story: the service begins again, in the background."""

LEFT_OUT = {
    # A claim that was lost costs the job its place, and a moment: these say when, or in which order, jobs begin.
    "test_a_delayed_job_starts_when_it_is_due_and_not_before",
    "test_a_submit_does_not_overtake_jobs_that_wait_in_its_queue",
    "test_the_most_urgent_job_runs_first_then_the_earliest",
    "test_ttl_counts_from_the_due_time_and_spares_jobs_that_have_started",
    # Eighteen ways to end an attempt by an error, which are all the same to the database.
    "test_a_result_that_json_cannot_hold_fails_the_attempt_and_the_worker_lives",
    "test_whatever_a_handler_raises_fails_the_attempt_and_nothing_else",
}


@pytest.fixture(autouse=True)
def replies(request, monkeypatch):
    """Loses statements of this test's services, by a seed of its own; what its callers ask in vain they ask again."""
    replies = LostReplies(SEED + zlib.crc32(request.node.name.encode()), lost=LOST, unsent=UNSENT, spared=START)
    replies.install(monkeypatch)
    # Looks for claims that were lost are a matter of the lease's length.
    monkeypatch.setattr(running_module, "Settings", functools.partial(Settings, lease=3.0))
    for owner, name in ((Checker, "check"), (Jobs, "get"), (Jobs, "wait"), (Jobs, "cancel")):
        monkeypatch.setattr(owner, name, _patient(getattr(owner, name)))
    return replies


def _patient(ask):
    """What a caller does that is told 503: it asks again. None of these makes anything that could be made twice."""

    @functools.wraps(ask)
    async def asks_again(*arguments, **options):
        while True:
            try:
                return await ask(*arguments, **options)
            except Unavailable:
                await asyncio.sleep(0.02)

    return asks_again


def _tests_of(module):
    return {
        name: test
        for name, test in vars(module).items()
        if name.startswith("test_") and inspect.isfunction(test) and name not in LEFT_OUT
    }


globals().update(_tests_of(test_running_jobs) | _tests_of(test_waiting_jobs))


async def test_statements_were_lost(database_url, replies):
    deck = Quarterdeck()

    @deck.handler()
    async def noop() -> None:
        pass

    async with running_module.running(database_url, deck):
        for _ in range(20):
            await (await noop.submit()).result(timeout=30)
    for statement in ("insert_jobs", "finish_jobs"):
        assert replies.lost[statement] > 0
        assert replies.passed[statement] > replies.lost[statement]
    assert sum(replies.unsent.values()) > 0
