import pytest

from quarterdeck.domain.state import MOVES, TERMINAL, WAITING, Reason, State


def test_every_state_is_waiting_running_or_terminal_and_only_one_of_them():
    assert WAITING | {State.RUNNING} | TERMINAL == set(State)
    assert not WAITING & TERMINAL


def test_the_moves_of_every_state_are_known():
    assert set(MOVES) == set(State)


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_an_ended_job_only_comes_back_by_hand_as_available(state):
    assert MOVES[state] == {State.AVAILABLE}


def test_only_an_available_job_begins_to_run():
    assert [state for state in State if State.RUNNING in MOVES[state]] == [State.AVAILABLE]


@pytest.mark.parametrize("state", sorted(WAITING | {State.RUNNING}))
def test_whatever_has_not_ended_can_be_cancelled(state):
    assert State.CANCELLED in MOVES[state]


def test_a_job_that_waits_for_its_next_attempt_never_expires():
    assert State.DISCARDED not in MOVES[State.RETRYABLE]


@pytest.mark.parametrize("state", sorted(State))
def test_no_move_leads_nowhere(state):
    assert state not in MOVES[state]


def test_states_and_reasons_are_the_words_of_the_interface():
    assert [*State] == [
        "pending",
        "scheduled",
        "available",
        "running",
        "retryable",
        "completed",
        "cancelled",
        "discarded",
    ]
    assert {*Reason} == {
        "timeout",
        "attempts_exhausted",
        "crashed",
        "interrupted",
        "snoozed",
        "expired",
        "rejected",
        "cancel_requested",
        "dependency_failed",
        "unroutable",
    }
