"""The soak's bars: what is missed says so."""

import msgspec
import pytest

from tests.soak.bars import bars
from tests.soak.checker import check
from tests.soak.conductor import Account, alarms
from tests.soak.figures import Recovery, figures, spread
from tests.soak.history import Answer
from tests.unit.soak.histories import good, moment


@pytest.fixture
def history():
    return good().history


@pytest.fixture
def account():
    return Account(statuses={}, took=[], refused=[], late=0, injected={}, unaccepted=0, undrained=[])


def missed(history, account, **changed):
    verdict = check(history)
    found = msgspec.structs.replace(figures(verdict.case), **changed)
    return [bar.name for bar in bars(history, verdict, account, found) if not bar.met]


@pytest.fixture(autouse=True)
def ended_well(history):
    for life in history.processes:
        life.exit_code = 0


def test_a_good_history_meets_all_bars(history, account):
    assert missed(history, account) == []


def test_a_violation_misses_its_bar(history, account):
    history.leftovers.append("a lock")
    assert missed(history, account) == ["lost or never ended (I1, I2)"]


def test_slow_rescues_exits_and_recoveries_miss_theirs(history, account):
    slow = {"kill": spread([3.0, 20.1]), "stop": spread([19.9])}
    gone = Recovery("restart_fast", 30.0, 1.0, 100.0, None)
    late = msgspec.structs.replace(gone, name="restart_immediate", seconds=10.1)
    assert missed(history, account, rescues=slow, exits=[25.1], recoveries=[gone, late]) == [
        "rescue p99 after kill",
        "SIGTERM to exit",
        "95 % of 100/s after restart_fast at 30 s",
        "95 % of 100/s after restart_immediate at 30 s",
    ]


def test_without_faults_nothing_may_be_run_again(history, account):
    history.faults.clear()
    assert "run again or given back, without any fault" in missed(history, account)


def test_processes_that_end_by_themselves_or_badly_miss_theirs(history, account):
    history.processes[1].exit_code = 5
    history.processes[2].how = "by itself"
    assert missed(history, account) == [
        "processes that ended by themselves",
        "exit codes after SIGTERM other than 0",
    ]


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_answers_that_no_submit_should_get_miss_theirs(history, account, status):
    history.submits[0].answers.append(Answer(moment(1), status, 0.1))
    assert missed(history, account) == ["answers other than 2xx, 409, or 429 and 503 with Retry-After"]


def test_what_nobody_accepted_and_what_the_logs_say_misses_theirs(history, account):
    account.unaccepted = 1
    history.alarms.append("oh")
    assert missed(history, account) == ["submits that nobody accepted", "alarms in the logs"]


def test_a_load_that_falls_behind_misses_its_bar(history, account):
    account.late = len(history.submits)
    assert missed(history, account) == ["jobs that the load came to submit in time"]


@pytest.mark.parametrize(
    ("line", "alarming"),
    [
        ('{"level":"info","event":"worker.registered"}', False),
        ('{"level":"error","event":"worker.fenced"}', False),
        ('{"level":"error","event":"Task exception was never retrieved"}', True),
        ('{"level":"critical","event":"loop.died"}', True),
        ("Traceback (most recent call last):", True),
        ("qd: a fault: ValueError", True),
        ("", False),
    ],
)
def test_errors_are_alarms_but_for_those_of_who_is_cut_off(line, alarming):
    assert bool(alarms(line)) is alarming
