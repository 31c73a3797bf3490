import itertools

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from quarterdeck.domain.outcome import (
    AttemptFacts,
    Cancel,
    Completed,
    Failed,
    Interrupted,
    Outcome,
    Rejected,
    Snooze,
    TimedOut,
    Transition,
    decide,
)
from quarterdeck.domain.retry import RetryPolicy
from quarterdeck.domain.state import MOVES, TERMINAL, Reason, State

ERROR = '{"type":"ValueError"}'
OUTCOMES: dict[str, Outcome] = {
    "completed": Completed("1"),
    "failed": Failed(ERROR),
    "failed, and asked to wait": Failed(ERROR, not_before=60.0),
    "timed out": TimedOut(ERROR),
    "rejected": Rejected(ERROR, "x is missing"),
    "interrupted": Interrupted(),
    "snooze": Snooze(30.0),
    "cancel": Cancel("no use"),
    "cancel without a word": Cancel(),
}
LEFT, NONE_LEFT, MORE_THAN_ALLOWED = 1, 3, 4
"""The attempt that ended, of three."""

COMPLETED = Transition(State.COMPLETED, "completed", result="1")
CANCELLED = Transition(State.CANCELLED, "cancelled", reason=Reason.CANCEL_REQUESTED)
CANCELLED_WITH_ERROR = Transition(State.CANCELLED, "cancelled", reason=Reason.CANCEL_REQUESTED, error=ERROR)
REJECTED = Transition(State.DISCARDED, "discarded", reason=Reason.REJECTED, detail="x is missing", error=ERROR)
INTERRUPTED = Transition(State.AVAILABLE, "interrupted", reason=Reason.INTERRUPTED, refund=True)
SNOOZED = Transition(State.SCHEDULED, "snoozed", reason=Reason.SNOOZED, delay=30.0, refund=True)
RETRIED = Transition(State.RETRYABLE, "retryable", delay=7.0, error=ERROR)
RETRIED_AFTER_TIMEOUT = Transition(State.RETRYABLE, "retryable", reason=Reason.TIMEOUT, delay=7.0, error=ERROR)
RETRIED_LATER = Transition(State.RETRYABLE, "retryable", delay=60.0, error=ERROR)
EXHAUSTED = Transition(State.DISCARDED, "discarded", reason=Reason.ATTEMPTS_EXHAUSTED, error=ERROR)
TIMED_OUT = Transition(State.DISCARDED, "discarded", reason=Reason.TIMEOUT, error=ERROR)


def gave_up(detail: str | None, *, asked: bool) -> Transition:
    return Transition(State.CANCELLED, "cancelled", reason=Reason.CANCEL_REQUESTED if asked else None, detail=detail)


# outcome: an attempt left, none left; the same with a cancel requested
TABLE = {
    "completed": (COMPLETED, COMPLETED, COMPLETED, COMPLETED),
    "failed": (RETRIED, EXHAUSTED, CANCELLED_WITH_ERROR, CANCELLED_WITH_ERROR),
    "failed, and asked to wait": (RETRIED_LATER, EXHAUSTED, CANCELLED_WITH_ERROR, CANCELLED_WITH_ERROR),
    "timed out": (RETRIED_AFTER_TIMEOUT, TIMED_OUT, CANCELLED_WITH_ERROR, CANCELLED_WITH_ERROR),
    "rejected": (REJECTED, REJECTED, CANCELLED_WITH_ERROR, CANCELLED_WITH_ERROR),
    "interrupted": (INTERRUPTED, INTERRUPTED, CANCELLED, CANCELLED),
    "snooze": (SNOOZED, SNOOZED, CANCELLED, CANCELLED),
    "cancel": (*[gave_up("no use", asked=False)] * 2, *[gave_up("no use", asked=True)] * 2),
    "cancel without a word": (*[gave_up(None, asked=False)] * 2, *[gave_up(None, asked=True)] * 2),
}
CASES = [
    pytest.param(name, attempt, asked, transition, id=f"{name}, attempt {attempt}{', cancel asked' * asked}")
    for name, row in TABLE.items()
    for (asked, attempt), transition in zip(itertools.product((False, True), (LEFT, NONE_LEFT)), row, strict=True)
]


def facts(attempt: int, *, asked: bool = False) -> AttemptFacts:
    return AttemptFacts(attempt, 3, RetryPolicy("fixed", base=7.0), cancel_requested=asked)


def test_the_table_knows_every_outcome():
    assert set(TABLE) == set(OUTCOMES)
    assert {type(outcome) for outcome in OUTCOMES.values()} == set(Outcome.__args__)


@pytest.mark.parametrize(("name", "attempt", "asked", "transition"), CASES)
def test_an_ended_attempt_decides_what_becomes_of_its_job(name, attempt, asked, transition):
    assert decide(facts(attempt, asked=asked), OUTCOMES[name], draw=0.5) == transition


@pytest.mark.parametrize(("name", "attempt", "asked", "transition"), CASES)
def test_whatever_is_decided_is_a_legal_move_of_a_running_job(name, attempt, asked, transition):
    assert transition.state in MOVES[State.RUNNING]


@pytest.mark.parametrize(("name", "attempt", "asked", "transition"), CASES)
def test_a_job_whose_cancel_was_asked_for_never_waits_again(name, attempt, asked, transition):
    if asked:
        assert decide(facts(attempt, asked=True), OUTCOMES[name], draw=0.5).state in TERMINAL


def test_an_attempt_beyond_the_last_one_is_the_last_one_too():
    assert decide(facts(MORE_THAN_ALLOWED), Failed(ERROR), draw=0.5) == EXHAUSTED


def test_the_delay_comes_from_the_policy_the_attempt_and_the_draw():
    retry = RetryPolicy("linear", base=10.0, jitter=True)
    transition = decide(AttemptFacts(2, 3, retry), Failed(ERROR), draw=0.25)
    assert transition.delay == 5.0


@pytest.mark.parametrize(("not_before", "delay"), [(0.0, 7.0), (6.9, 7.0), (7.1, 7.1), (90_000.0, 90_000.0)])
def test_what_was_asked_for_is_the_least_delay(not_before, delay):
    assert decide(facts(LEFT), Failed(ERROR, not_before), draw=0.5).delay == delay


@given(
    attempt=st.integers(1, 50),
    draw=st.floats(0, 1, exclude_max=True),
    not_before=st.floats(0, 86_400),
    retry=st.builds(
        RetryPolicy,
        backoff=st.sampled_from(["exponential", "linear", "fixed"]) | st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)),
        base=st.floats(0, 1e6),
        cap=st.floats(0, 1e6),
        jitter=st.none() | st.booleans(),
    ),
)
def test_a_failed_attempt_waits_as_the_policy_says_or_as_it_was_asked_whichever_is_longer(
    attempt, draw, not_before, retry
):
    plain = decide(AttemptFacts(attempt, 51, retry), Failed(ERROR), draw)
    asked = decide(AttemptFacts(attempt, 51, retry), Failed(ERROR, not_before), draw)
    assert asked == msgspec.structs.replace(plain, delay=max(plain.delay, not_before))
