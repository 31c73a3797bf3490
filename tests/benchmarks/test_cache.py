"""The benchmark of the cache compares what it says it compares."""

import json
import random

import pytest

from benchmarks.cache import SIZES, Figures, document, table
from benchmarks.cache_ways import EVERYTHING, WAYS
from quarterdeck.engine import parts
from quarterdeck.engine.reader import Reader
from quarterdeck.store import cache


@pytest.mark.parametrize("size", SIZES)
def test_a_result_is_json_of_about_the_size_and_the_same_each_time(size):
    text = document(size, random.Random(size))
    assert 0 <= len(text) - size < 200
    assert json.loads(text)[0]["name"]
    assert text == document(size, random.Random(size))


def test_without_a_cache_every_result_is_read_with_its_job_and_far_nothing_is_kept_in_the_process():
    with WAYS["uncached"]:
        assert parts.Reader.keywords == {"largest": EVERYTHING}
    with WAYS["far"]:
        assert cache.Memory.keywords == {"limit": 0}
    assert parts.Reader is Reader


def test_a_ratio_is_that_of_the_same_round(capsys):
    shown = table([Figures("engine", 200, {"uncached": [1.0, 10.0, 100.0], "memory": [2.0, 20.0, 300.0]})])
    assert list(shown.columns[4].cells) == ["2.00 (2.00-3.00)"]
