import time

import pytest

from quarterdeck.web.prefer import MAX_WAIT, wait_seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        ([""], None),
        (["wait=10"], 10),
        (["Wait = 10"], 10),
        (['wait="10"'], 10),
        (["wait=10;strict"], 10),
        (["respond-async, wait=7"], 7),
        (["respond-async", "wait=7"], 7),
        (["wait=7, wait=8"], 7),
        (["wait=soon, wait=8"], 8),
        (["wait=0"], 0),
        (["wait=000"], 0),
        (["wait=007"], 7),
        (["wait=60"], 60),
        (["wait=61"], MAX_WAIT),
        (["wait=" + "9" * 5000], MAX_WAIT),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["wait"], None),
        (["wait="], None),
        (["waiting=5"], None),
        (['x="wait=5"'], None),
        (['x=", wait=5"'], None),
        (['x="\\", wait=5", wait=6'], 6),
        (['x=", wait=5'], None),
        (["handling=lenient; wait=5"], None),
    ],
)
def test_the_first_wait_that_is_one_counts(headers, seconds):
    assert wait_seconds(headers) == seconds


@pytest.mark.parametrize("unit", ['"', '"\\', "\\", '",', "wait=", 'wait="', " ", '"\\"'])
def test_no_header_takes_long_to_read(unit):
    began = time.process_time()
    wait_seconds([unit * (16_384 // len(unit))])
    assert time.process_time() - began < 0.1
