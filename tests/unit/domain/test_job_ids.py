import uuid
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.domain.job import IdSource

PER_MILLISECOND = 4096
"""What the 12 bits of the counter can tell apart."""


def source(*readings: int) -> IdSource:
    """A source whose clock shows these milliseconds, one after another, and then stands still."""
    left = list(readings)
    return IdSource(lambda: left.pop(0) if len(left) > 1 else left[0])


def milliseconds(job_id: uuid.UUID) -> int:
    return job_id.int >> 80


def test_an_id_is_a_uuid_of_version_7_and_of_the_standard_variant():
    job_id = source(1_769_860_800_123).next()
    assert job_id.version == 7
    assert job_id.variant == uuid.RFC_4122
    assert milliseconds(job_id) == 1_769_860_800_123


def test_ids_of_one_millisecond_grow_strictly():
    ids = source(5)
    assert all(earlier < later for earlier, later in pairwise(ids.next() for _ in range(1000)))


def test_more_ids_than_a_millisecond_can_count_borrow_the_next_one():
    ids = source(5)
    made = [ids.next() for _ in range(3 * PER_MILLISECOND)]
    assert all(earlier < later for earlier, later in pairwise(made))
    assert milliseconds(made[-1]) in {7, 8}
    assert {job_id.version for job_id in made} == {7}


def test_a_clock_that_catches_up_with_borrowed_time_takes_no_id_back():
    ids = source(5)
    made = [ids.next() for _ in range(PER_MILLISECOND + 1)]
    ids._now_ms = lambda: 6
    made += [ids.next() for _ in range(3)]
    assert all(earlier < later for earlier, later in pairwise(made))


def test_a_clock_that_steps_back_takes_no_id_back():
    ids = source(1000, 999, 1, 0, 1001)
    made = [ids.next() for _ in range(5)]
    assert all(earlier < later for earlier, later in pairwise(made))
    assert [milliseconds(job_id) for job_id in made] == [1000, 1000, 1000, 1000, 1001]


def test_a_fresh_millisecond_leaves_at_least_half_of_the_counter():
    counters = {(source(5).next().int >> 64) & 0xFFF for _ in range(500)}
    assert max(counters) < PER_MILLISECOND // 2
    assert len(counters) > 100


def test_two_sources_do_not_make_the_same_id():
    assert source(5).next() != source(5).next()


@given(st.lists(st.integers(0, 2**48 - 2), min_size=2, max_size=50))
def test_ids_grow_strictly_whatever_the_clock_does(readings):
    ids = source(*readings)
    made = [ids.next() for _ in readings]
    assert all(earlier < later for earlier, later in pairwise(made))
