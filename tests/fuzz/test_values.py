"""Any JSON that is accepted comes back value for value; what is refused is refused in the right way."""

import json
import math

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

BOUNDED = settings(
    max_examples=60,
    deadline=None,  # speed is measured elsewhere
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# Whole JSON but for what no database can hold: NUL, lone surrogates.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=25,
)
OBJECTS = st.dictionaries(TEXT, JSON, max_size=6)


def same(sent, got):
    """Whether two values are the same JSON value. A number may be written in another way, never be another number.

    Zero has no sign here: JSON numbers are decimal, and decimal numbers have one zero. A double beyond 64 bit comes
    back as a double, so that it can be sent again.
    """
    if isinstance(sent, bool) or isinstance(got, bool) or sent is None or got is None:
        return sent is got
    if isinstance(sent, int | float) and isinstance(got, int | float):
        return sent == (got if isinstance(sent, int) or abs(sent) >= 2**64 else float(got))
    if isinstance(sent, dict) and isinstance(got, dict):
        return sent.keys() == got.keys() and all(same(value, got[key]) for key, value in sent.items())
    if isinstance(sent, list) and isinstance(got, list):
        return len(sent) == len(got) and all(map(same, sent, got))
    return type(sent) is type(got) and sent == got


EDGES = {
    "greatest": 2**64 - 1, "least": -(2**63), "exact": 2**53 + 1, "large": 1e300, "small": 5e-324, "tenth": 0.1,
    "negative zero": -0.0, "whole": 1.0, "largest": 1.7976931348623157e308, "sum": 0.1 + 0.2,
    "text": 'ü\u2028\U0001f600\x7f\x01 \\u0000 "', "ключ": ["", {"": {}}, [[]]], "nothing": None,
    "bools": [True, 1, False, 0], "a.b": "~/", "é": "composed", "e\u0301": "decomposed",
}  # fmt: skip


@BOUNDED
@given(args=OBJECTS, metadata=OBJECTS)
@example(args=EDGES, metadata=EDGES)
def test_any_json_that_is_accepted_comes_back_value_for_value(http, args, metadata):
    body = json.dumps({"kind": "quarterdeck.echo", "args": args, "metadata": metadata}, ensure_ascii=False)
    answer = http.post(
        "/v1/jobs",
        content=body.encode(),
        headers={"Content-Type": "application/json", "Prefer": "wait=20"},
    )
    assert answer.status_code == 200, answer.text
    ended = answer.json()
    looked_up = http.get(f"/v1/jobs/{ended['id']}").json()
    result = http.get(f"/v1/jobs/{ended['id']}/result").json()
    assert looked_up == ended
    for got in (ended["args"], ended["result"], result):
        assert same(args, got), got
    assert same(metadata, ended["metadata"])


BAD_VALUES = {
    "NaN": (b"NaN", 400),
    "Infinity": (b"-Infinity", 400),
    "a NUL": (b'"\\u0000"', 422),
    "a lone surrogate": (b'"\\udc00"', 422),
    "beyond 64 bit": (b"18446744073709551616", 422),
    "far beyond 64 bit": (b"1" + b"0" * 300, 422),
    "below 64 bit": (b"-9223372036854775809", 422),
    "beyond doubles": (b"1e999", 422),
    "bad UTF-8": (b'"\xff"', 400),
    "a control character": (b'"\x01"', 400),
    "a bare word": (b"nil", 400),
    "a key twice": (b'{"a":1,"a":1}', 400),
    "too deep": (b"[" * 40 + b"]" * 40, 422),
}


@BOUNDED
@given(name=st.sampled_from(sorted(BAD_VALUES)), around=JSON, path=st.lists(st.booleans(), max_size=6))
def test_a_bad_value_is_refused_wherever_it_stands(http, name, around, path):
    text, status = BAD_VALUES[name]
    other = json.dumps(around).encode()
    for in_list in path:
        text = b"[" + other + b"," + text + b"]" if in_list else b'{"x":' + other + b',"y":' + text + b"}"
    body = b'{"kind":"quarterdeck.echo","args":{"v":' + text + b"}}"
    answer = http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), answer.text
    assert answer.json()["type"] in ("/problems/malformed-json", "/problems/invalid")


@BOUNDED
@given(text=st.binary(max_size=200))
@example(text=b"")
@example(text=b"\xef\xbb\xbf{}")
def test_bytes_that_are_no_submit_are_a_400_or_a_422(http, text):
    answer = http.post("/v1/jobs", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("value", [math.pi, 1e22, 123456789.123456789, 2**63, -1])
def test_numbers_are_the_same_to_the_same_value(value):
    assert same(value, json.loads(json.dumps(value)))
    assert not same(value, value * 2)
