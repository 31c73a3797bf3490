import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.domain.retry import DEFAULT_BASE, DEFAULT_CAP, DEFAULT_RETRY, RetryPolicy

LAST = math.nextafter(1.0, 0.0)
"""The greatest number that a draw can be."""


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        (RetryPolicy("exponential", base=2, cap=100, jitter=False), [2, 4, 8, 16, 32, 64, 100, 100]),
        (RetryPolicy("linear", base=10, cap=35), [10, 20, 30, 35, 35]),
        (RetryPolicy("fixed", base=7), [7, 7, 7]),
        (RetryPolicy((1.0, 5.0, 20.0)), [1, 5, 20, 20, 20]),
        (RetryPolicy((1.0, 5.0, 20.0), cap=4), [1, 4, 4]),
        (RetryPolicy((0.0,)), [0, 0]),
        (RetryPolicy("fixed", base=7, cap=3), [3, 3]),
    ],
)
def test_a_delay_grows_as_its_backoff_says_and_never_beyond_the_cap(policy, delays):
    assert [policy.delay(attempt, draw=0.5) for attempt in range(1, len(delays) + 1)] == delays


@pytest.mark.parametrize("backoff", ["exponential", "linear", "fixed", (1.0, 2.0)])
@pytest.mark.parametrize("attempt", [1, 63, 64, 1000, 10**9])
def test_no_attempt_is_too_late_for_a_finite_delay(backoff, attempt):
    policy = RetryPolicy(backoff, base=300_000_000.0, cap=300_000_000.0, jitter=False)
    assert 0 < policy.delay(attempt, draw=LAST) <= 300_000_000.0


@pytest.mark.parametrize(
    ("policy", "spread"),
    [
        (RetryPolicy("exponential"), True),
        (RetryPolicy("exponential", jitter=False), False),
        (RetryPolicy("linear"), False),
        (RetryPolicy("linear", jitter=True), True),
        (RetryPolicy("fixed"), False),
        (RetryPolicy("fixed", jitter=True), True),
        (RetryPolicy((3.0,)), False),
        (RetryPolicy((3.0,), jitter=True), True),
    ],
)
def test_jitter_is_on_for_exponential_backoff_and_where_it_is_asked_for(policy, spread):
    assert (policy.delay(2, draw=0.0) == 0) is spread
    assert (policy.delay(2, draw=0.25) != policy.delay(2, draw=0.75)) is spread


@given(attempt=st.integers(1, 1000), draw=st.floats(0, 1, exclude_max=True))
def test_full_jitter_draws_evenly_between_nothing_and_the_whole_delay(attempt, draw):
    whole = RetryPolicy("exponential", jitter=False).delay(attempt, 0)
    assert DEFAULT_RETRY.delay(attempt, draw) == whole * draw < whole


def test_the_default_is_exponential_from_two_seconds_to_an_hour():
    assert (DEFAULT_BASE, DEFAULT_CAP) == (2, 3600)
    assert DEFAULT_RETRY.delay(1, draw=0.5) == 1
    assert DEFAULT_RETRY.delay(1000, draw=0.5) == 1800
