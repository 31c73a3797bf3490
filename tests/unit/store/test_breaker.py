"""A breaker opens after failures one after the other, and lets one operation try again after each pause."""

import pytest

from quarterdeck.store.breaker import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, Breaker


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return Breaker("here:1", clock)


def operate(breaker, clock, *, worked, takes=0.02):
    begun = breaker.enter()
    assert begun is not None
    clock.now += takes
    breaker.leave(begun, worked=worked)


def opened(breaker, clock):
    for _ in range(FAILURES):
        operate(breaker, clock, worked=False)
    assert breaker.open


def test_it_opens_after_failures_one_after_the_other_within_a_second(breaker, clock):
    began = clock.now
    opened(breaker, clock)
    assert clock.now - began < 1
    assert breaker.enter() is None


def test_a_success_in_between_keeps_it_closed(breaker, clock):
    for _ in range(3):
        for _ in range(FAILURES - 1):
            operate(breaker, clock, worked=False)
        operate(breaker, clock, worked=True)
    assert not breaker.open


def test_operations_that_fail_together_count_once(breaker, clock):
    together = [breaker.enter() for _ in range(50)]
    clock.now += 0.02
    for each in together:
        breaker.leave(each, worked=False)
    assert not breaker.open


def test_ends_that_say_nothing_change_nothing(breaker, clock):
    for _ in range(10):
        operate(breaker, clock, worked=None)
    assert not breaker.open


def test_after_the_pause_one_operation_tries_and_no_other(breaker, clock):
    opened(breaker, clock)
    clock.now += FIRST_PAUSE
    trial = breaker.enter()
    assert trial is not None
    assert breaker.enter() is None
    breaker.leave(trial, worked=True)
    assert not breaker.open
    assert breaker.enter() is not None


def test_a_try_whose_caller_went_away_lets_the_next_one_try(breaker, clock):
    opened(breaker, clock)
    clock.now += FIRST_PAUSE
    breaker.leave(breaker.enter(), worked=None)
    assert breaker.open
    assert breaker.enter() is not None


def test_who_began_before_it_opened_neither_closes_it_nor_ends_a_trial(breaker, clock):
    early = [breaker.enter(), breaker.enter()]
    opened(breaker, clock)
    clock.now += FIRST_PAUSE
    trial = breaker.enter()
    breaker.leave(early[0], worked=True)
    assert breaker.open
    breaker.leave(early[1], worked=False)
    assert breaker.enter() is None, "two trials"
    breaker.leave(trial, worked=True)
    assert not breaker.open


def test_pauses_grow_to_two_seconds_and_begin_anew_after_a_success(breaker, clock):
    opened(breaker, clock)
    pauses = []
    for _ in range(6):
        began = clock.now
        while breaker.refuses:
            clock.now += 0.01
        pauses.append(clock.now - began)
        operate(breaker, clock, worked=False, takes=0)
    assert pauses == pytest.approx([0.25, 0.5, 1.0, 2.0, 2.0, 2.0], abs=0.02)
    assert LONGEST_PAUSE + 1 < 5, "it has to be back within 5 seconds"
    clock.now += LONGEST_PAUSE
    operate(breaker, clock, worked=True)
    opened(breaker, clock)
    clock.now += FIRST_PAUSE
    assert not breaker.refuses


def test_a_line_is_logged_for_each_change_and_none_for_tries(breaker, clock, caplog):
    caplog.set_level(0)
    opened(breaker, clock)
    for _ in range(3):
        clock.now += LONGEST_PAUSE
        operate(breaker, clock, worked=False)
    clock.now += LONGEST_PAUSE
    operate(breaker, clock, worked=True)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "cache.server_is_left_alone" in said[0]
    assert "cache.server_is_back" in said[1]
