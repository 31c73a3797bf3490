"""An attempt: how it is stopped, whatever its handler does."""

import asyncio
import datetime as dt
import uuid

import pytest

from quarterdeck import Quarterdeck
from quarterdeck.domain.outcome import Interrupted, TimedOut
from quarterdeck.engine import attempt as module
from quarterdeck.engine.attempt import Attempt, Stop
from quarterdeck.store.attempts import ClaimedJob
from tests.support.waiting import eventually

NOW = dt.datetime(2026, 1, 31, tzinfo=dt.UTC)


class Stage:
    """An attempt of a handler that waits for ever, and what it reported."""

    def __init__(self) -> None:
        self.entered = False
        self.reports = []
        deck = Quarterdeck()

        @deck.handler()
        async def hold() -> None:
            self.entered = True
            await asyncio.Event().wait()

        job = ClaimedJob(uuid.uuid4(), 1, "hold", "default", {}, 1, 5, 1.0, None, "default", NOW, lambda: None)
        (handler,) = deck.handlers
        self.attempt = Attempt(
            job, handler, {}, context=None, now=lambda: NOW, report=lambda _, outcome: self.reports.append(outcome)
        )
        self.attempt.begin()


@pytest.mark.parametrize("entered", [False, True], ids=["before its first step", "while it waits"])
@pytest.mark.parametrize(
    ("why", "outcome"),
    [(Stop.CANCEL, Interrupted), (Stop.SHUTDOWN, Interrupted), (Stop.TIMEOUT, TimedOut), (Stop.LEASE_LOST, type(None))],
    ids=str,
)
async def test_a_handler_that_is_told_to_stop_has_ended_at_once(monkeypatch, entered, why, outcome):
    monkeypatch.setattr(module, "ABANDON_AFTER", 60.0)
    stage = Stage()
    if entered:
        await eventually(lambda: stage.entered)
    stage.attempt.stop(why)
    await eventually(lambda: stage.reports)
    assert [type(report) for report in stage.reports] == [outcome]
    assert stage.entered is entered
