import base64
import datetime as dt
import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.domain.listing import Bookmarks, InvalidListing, JobFilter
from quarterdeck.domain.state import State

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
HERE = Bookmarks("jobs", "default", JobFilter(kind="k"))
POSITIONS = st.integers(0, 2**128 - 1)


@given(POSITIONS)
def test_a_cursor_holds_its_position_in_few_and_harmless_characters(position):
    cursor = HERE.cursor(position)
    assert re.fullmatch("[A-Za-z0-9_-]{32}", cursor)
    assert HERE.position(cursor) == position
    assert Bookmarks("jobs", "default", JobFilter(kind="k")).position(cursor) == position


@given(POSITIONS, st.integers(0, 31), st.sampled_from("ABCDEFabcdef0189_-"))
def test_a_cursor_with_another_character_is_refused(position, at, character):
    cursor = HERE.cursor(position)
    other = cursor[:at] + character + cursor[at + 1 :]
    if other != cursor:
        with pytest.raises(InvalidListing, match="cursor"):
            HERE.position(other)


@given(st.text(max_size=40) | st.binary(min_size=24, max_size=24).map(lambda b: base64.urlsafe_b64encode(b).decode()))
def test_what_was_never_a_cursor_is_refused(text):
    with pytest.raises(InvalidListing, match="cursor"):
        HERE.position(text)


@pytest.mark.parametrize(
    "change", [lambda c: c + "=", lambda c: c[:-1], lambda c: c + "\n", lambda c: f" {c}", lambda c: c * 2]
)
def test_a_cursor_that_was_cut_or_extended_is_refused(change):
    with pytest.raises(InvalidListing, match="cursor"):
        HERE.position(change(HERE.cursor(5)))


@pytest.mark.parametrize(
    "other",
    [
        Bookmarks("jobs", "acme", JobFilter(kind="k")),
        Bookmarks("jobs", "default", JobFilter()),
        Bookmarks("jobs", "default", JobFilter(queue="k")),
        Bookmarks("jobs", "default", JobFilter(kind="k", args={})),
        Bookmarks("events", "default", uuid.UUID(int=1), "log"),
    ],
)
def test_a_cursor_of_another_list_is_refused(other):
    with pytest.raises(InvalidListing, match="cursor"):
        HERE.position(other.cursor(5))


def test_the_same_filter_said_in_another_way_is_the_same_list():
    zone = dt.timezone(dt.timedelta(hours=9))
    one = JobFilter(
        states=(State.COMPLETED, State.AVAILABLE), tags=("b", "a"), created_after=NOON, kind="k", args={"a": 1, "b": 2}
    )
    other = JobFilter(
        states=(State.AVAILABLE, State.COMPLETED, State.COMPLETED),
        tags=("a", "b", "a"),
        created_after=NOON.astimezone(zone),
        kind="k",
        args={"b": 2, "a": 1},
    )
    assert Bookmarks(other.checked()).position(Bookmarks(one.checked()).cursor(7)) == 7


@pytest.mark.parametrize(
    ("wanted", "parameter"),
    [
        (JobFilter(kind=""), "kind"),
        (JobFilter(kind="a b"), "kind"),
        (JobFilter(queue="\0"), "queue"),
        (JobFilter(queue="q" * 129), "queue"),
        (JobFilter(tags=("",)), "tag"),
        (JobFilter(tags=("t" * 129,)), "tag"),
        (JobFilter(tags=("\0",)), "tag"),
        (JobFilter(tags=("\ud800",)), "tag"),
        (JobFilter(tags=("t",) * 33), "tag"),
        (JobFilter(args={}), "args"),
        (JobFilter(args={"a": "\0"}, kind="k"), "args"),
        (JobFilter(args={"a": 2**64}, queue="q"), "args"),
        (JobFilter(created_after=NOON.replace(tzinfo=None)), "created_after"),
        (JobFilter(created_before=NOON.replace(year=9000)), "created_before"),
        (JobFilter(created_before=NOON.replace(year=1969)), "created_before"),
    ],
)
def test_a_filter_that_breaks_a_rule_is_refused_by_name(wanted, parameter):
    with pytest.raises(InvalidListing) as refused:
        wanted.checked()
    assert refused.value.parameter == parameter
