"""The soak's figures, on histories made by hand."""

import pytest

from tests.soak.case import Case
from tests.soak.figures import exit_times, figures, quantile, recoveries, rescue_times
from tests.soak.history import Fault
from tests.unit.soak.histories import Tale, good, moment


@pytest.fixture
def history():
    return good().history


def test_a_rescue_takes_from_the_fault_to_the_next_run(history):
    alone, mixed = rescue_times(Case.of(history))
    assert {name: sorted(round(time, 3) for time in times) for name, times in alone.items()} == {
        "kill": [15.1, 15.1],  # one of them was never begun before
        "stop": [15.6],
    }
    assert mixed == {}


def test_a_rescue_during_which_the_database_was_restarted_stands_apart(history):
    history.faults.append(Fault(name="restart_fast", began_at=moment(60), ended_at=moment(61)))
    alone, mixed = rescue_times(Case.of(history))
    assert (sorted(alone), sorted(mixed)) == (["stop"], ["kill"])


def test_what_was_lost_and_then_cancelled_is_rescued_by_its_end(history):
    tale = Tale()
    tale.history = history
    tale.row(
        50,
        (48, "submitted"),
        (48, "started", {"attempt": 1}),
        (64, "rescued"),
        (64.5, "cancelled"),
    )
    tale.ran(50, 2, 101, (48.1, "start"))
    assert 14.5 in [round(time, 3) for time in rescue_times(Case.of(history))[0]["kill"]]


def test_what_is_counted(history):
    found = figures(Case.of(history))
    assert (found.submitted, found.accepted) == (13, 13)
    assert (found.rerun, found.given_back) == (2, 1)
    assert found.ended == {
        "cancelled": 1,
        "cancelled (cancel_requested)": 1,
        "completed": 9,
        "discarded (attempts_exhausted)": 1,
    }
    assert found.faults == {"kill": 1, "stop": 1}


def test_only_what_was_told_to_end_has_an_exit_time(history):
    assert exit_times(history) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([1.0], 0.99, 1.0), ([1.0, 2.0], 0.5, 1.0), (list(range(1, 101)), 0.99, 99), (list(range(1, 101)), 1.0, 100)],
)
def test_a_quantile_is_the_value_at_the_nearest_rank(values, share, expected):
    assert quantile(values, share) == expected


def completing(gaps: list[tuple[float, float]]) -> Tale:
    """Ten completions a second for a minute, but for those in the gaps."""
    tale = Tale()
    moments = [number / 10 for number in range(600)]
    for number, at in enumerate(moments):
        if not any(since <= at < until for since, until in gaps):
            tale.row(number, (0, "submitted"), (at, "started", {"attempt": 1}), (at, "completed"))
    tale.history.load_ended_at = moment(60)
    tale.history.faults = [Fault(name="restart_fast", began_at=moment(30), ended_at=moment(32))]
    return tale


@pytest.mark.parametrize(
    ("gaps", "seconds"),
    [([(30, 32)], 0.0), ([(30, 35)], 2.8), ([(30, 41)], 8.6), ([(30, 60)], None)],
)
def test_work_is_back_when_completions_come_as_usual(gaps, seconds):
    (recovery,) = recoveries(completing(gaps).history)
    lost = sum(until - since for since, until in gaps)
    assert (recovery.usual, recovery.away, recovery.seconds) == (round((60 - lost) / 6, 1), 2.0, seconds)


@pytest.mark.parametrize("gap", [(0, 28), (20, 30)])
def test_another_fault_before_does_not_make_the_measure(gap):
    (recovery,) = recoveries(completing([gap, (30, 36)]).history)
    assert recovery.usual < 10
    assert recovery.seconds is not None
    assert recovery.seconds > 2


def test_work_that_comes_back_slower_is_not_back():
    tale = completing([(30, 32)])
    tale.history.rows = [row for row in tale.history.rows if row.timeline[-1].at_ms < 30_000 or row.id.int % 2]
    (recovery,) = recoveries(tale.history)
    assert recovery.seconds is None
