import gc
import itertools
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeck.domain.jsonvalue import MAX_DEPTH
from quarterdeck.web.problems import Refusal
from quarterdeck.web.strictjson import MAX_WALK, decode

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(SCALARS | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=30)


def refused(text, **options):
    with pytest.raises(Refusal) as refusal:
        decode(text, **options)
    problem = refusal.value.problem
    return problem.status, [error.pointer for error in problem.errors]


@settings(deadline=None, max_examples=50)
@given(VALUES, st.booleans())
def test_whatever_can_be_stored_is_read_as_it_was_written(value, escaped):
    text = json.dumps(value, ensure_ascii=escaped).encode()
    decoded = decode(text)
    assert decoded == value
    assert json.dumps(decoded) == json.dumps(value)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(TEXT, VALUES, min_size=1), st.data())
def test_a_key_that_comes_twice_is_found_wherever_it_is(value, data):
    key = data.draw(st.sampled_from(sorted(value)))
    members = [f"{json.dumps(name)}: {json.dumps(item)}" for name, item in value.items()]
    members.insert(data.draw(st.integers(0, len(members))), f"{json.dumps(key, ensure_ascii=False)}: null")
    text = f'[{{"a": {{{", ".join(members)}}}}}]'.encode()
    escaped = key.replace("~", "~0").replace("/", "~1")
    assert refused(text) == (400, [f"/0/a/{escaped}"])


@settings(deadline=None, max_examples=50)
@given(VALUES, st.sampled_from([b"NaN", b"-Infinity", b'"\\u0000"', b'"\\ud800"', b"1e400", b"-" + b"9" * 30]))
def test_one_flaw_is_enough(value, flaw):
    status = 400 if b"N" in flaw or b"I" in flaw else 422
    assert refused(b'{"a": ' + json.dumps(value).encode() + b', "b~/": [0, ' + flaw + b"]}") == (status, ["/b~0~1/1"])


@pytest.mark.parametrize("brackets", [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_has_a_limit(brackets):
    opening, closing = brackets

    def nested(levels):
        return opening * levels + b"1" + closing * levels

    assert decode(nested(MAX_DEPTH + 1))
    assert refused(nested(MAX_DEPTH + 2))[0] == 422
    assert decode(nested(3), max_depth=3)
    assert refused(nested(4), max_depth=3)[0] == 422
    assert decode(b"[" + b",".join([nested(MAX_DEPTH)] * 50) + b"]")
    assert decode(b'["' + b"[" * 100 + b'\\"{{", "\\\\"]')


@pytest.mark.parametrize(
    ("number", "holds"),
    [
        ("9223372036854775807", True),
        ("9223372036854775808", True),
        ("18446744073709551615", True),
        ("18446744073709551616", False),
        ("-9223372036854775808", True),
        ("-9223372036854775809", False),
        ("-18446744073709551615", False),
        ("1" * 30, False),
        ("1" * 5000, False),
        ("1" * 30 + ".5", True),
        ("0." + "1" * 30, True),
        ("1" * 30 + "e5", True),
        ("1" * 30 + "E-5", True),
        ("1.5e0000000000000000000000000001", True),
        ("1e-0000000000000000000000000001", True),
        ("1e+0000000000000000000000000001", True),
    ],
)
def test_whole_numbers_have_64_bit_and_others_are_doubles(number, holds):
    for text in (number, f"[{number}]", f'{{"a":{number},"b":1}}', f"[1, 2 ,{number} , 3]"):
        if holds:
            assert decode(text.encode()) == json.loads(text)
        else:
            assert refused(text.encode())[0] == 422


def test_a_bad_text_that_is_long_is_not_searched_for_the_place():
    filler = b'"' + b"a" * MAX_WALK + b'",'
    assert refused(b"[" + filler + b'"\\u0000"]') == (422, [])
    assert refused(b"[" + filler + b'{"a":1,"a":1}]') == (400, [])


@pytest.mark.parametrize(
    "text", ['"\\ud83d\\ude00"', '"\\uD83D\\uDE00"', '"\\\\ud800"', '["\\u0001", "\\u00ff"]', '"a:b\\u003a\\u003Ac"']
)
def test_other_escapes_are_what_they_stand_for(text):
    assert decode(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    "text", [b'"\\ud800NaN"', b'"\\ud800\\ud800"', b'"\\udc00"', b'"\\ud800x"', b'"\\ud83d\\u0041"', b'["\\udead"]  ']
)
def test_lone_surrogates_are_well_formed_but_not_stored(text):
    assert refused(text)[0] == 422


@pytest.mark.parametrize(
    "text", [b'["\\ud800",]', b'["\\ud800",\\ud800]', b'["\\ud800",\\\\1]', b'"\\ud800', b'{"a":"\\ud800"', b'"\\ud80"']
)
def test_lone_surrogates_do_not_make_bad_json_good(text):
    assert refused(text)[0] == 400


BRACKETS = st.recursive(
    st.sampled_from(["1", '""', '"["', '"]}"', '"\\""', '"\\\\"', '"\\\\\\"{"', "[]", "{}"]),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda items: f"[{','.join(items)}]")
        | inner.map(lambda item: f'{{"]":{item}}}')
    ),
    max_leaves=12,
)


def levels(value):
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if items is None else 1 + max(map(levels, items), default=0)


@settings(deadline=None, max_examples=200)
@given(BRACKETS)
def test_levels_are_counted_outside_texts_only(text):
    depth = levels(json.loads(text))
    assert decode(text.encode(), max_depth=depth) == json.loads(text)
    for fewer in range(depth):
        with pytest.raises(Refusal) as refusal:
            decode(text.encode(), max_depth=fewer)
        assert refusal.value.problem.detail == f"The body is nested deeper than {fewer} levels"


NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,2}|1844674407370955[0-9]{4}|922337203685477[0-9]{4,6})", fullmatch=True)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        NUMBERS
        | st.builds("{}.{}".format, NUMBERS, st.from_regex("[0-9]{1,25}", fullmatch=True))
        | st.builds("{}{}".format, NUMBERS, st.sampled_from(["e1", "E-1", "e+0", "e00000000000000000000001"]))
        | NUMBERS.map('"{}"'.format)
        | st.sampled_from(["true", "false", "null", '""', '{"1":1}', '"\\""', '"\\\\"', "[]"]),
        max_size=6,
    )
)
def test_numbers_are_judged_outside_texts_only(items):
    text = f"[{','.join(items)}]"
    value = json.loads(text)
    if all(-(2**63) <= number < 2**64 for number in value if isinstance(number, int)):
        assert decode(text.encode()) == value
    else:
        assert refused(text.encode())[0] == 422


def pairs(members):
    """An object; one whose keys come twice is marked."""
    keys = [key for key, _ in members]
    return dict(members) if len(keys) == len(set(keys)) else Twice(members)


class Twice(dict):
    pass


def no_json(name):
    raise ValueError(name)


def flaws(value, level=1):
    match value:
        case str() if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            yield 422
        case int() if not -(2**63) <= value < 2**64:
            yield 422
        case float() if not math.isfinite(value):
            yield 422
        case dict() | list():
            if level > MAX_DEPTH + 1:
                yield 422
            if isinstance(value, Twice):
                yield 400
            for item in itertools.chain(value, value.values()) if isinstance(value, dict) else value:
                yield from flaws(item, level + 1)


def statuses(text):
    """With which statuses a text may be refused, found in the plainest way; none if it may not."""
    try:
        return set(flaws(json.loads(text.decode(), object_pairs_hook=pairs, parse_constant=no_json)))
    except ValueError:
        return {400}


PIECES = st.sampled_from(
    [
        *(
            b"[",
            b"]",
            b"{",
            b"}",
            b",",
            b":",
            b'"',
            b"\\",
            b" ",
            b"\n",
            b"0",
            b"1",
            b"-",
            b".",
            b"e",
            b"E",
            b"+",
            b"9" * 19,
        ),
        *(b'"a"', b'"b"', b'"a":', b'"\\u0061":', b'{"a":1}', b"[1,2]", b"true", b"null", b"nul", b"NaN", b"-Infinity"),
        *(
            b"\\u0000",
            b"\\u003a",
            b"\\ud83d",
            b"\\ude00",
            b"\\u00",
            b"\\x",
            b"\xc3\xbc",
            b"\xff",
            b"\xed\xa0\x80",
            b"\x00",
        ),
        *(b"18446744073709551615", b"18446744073709551616", b"-9223372036854775809", b"1e400", b"[" * 17, b"]" * 17),
    ]
)


@settings(deadline=None, max_examples=500)
@given(st.lists(PIECES, max_size=12).map(b"".join) | VALUES.map(json.dumps).map(str.encode), PIECES, st.floats(0, 1))
def test_any_bytes_are_judged_as_by_a_plain_reader(text, piece, place):
    cut = round(place * len(text))
    for judged in (text, text[:cut] + piece + text[cut:]):
        expected = statuses(judged)
        if expected:
            assert refused(judged)[0] in expected
        else:
            assert decode(judged) == json.loads(judged)


def test_the_garbage_collector_is_left_as_it_was():
    large = b"[" + b"[]," * 50_000 + b"[]]"
    decode(large)
    assert gc.isenabled()
    with pytest.raises(Refusal):
        decode(large[:-1] + b',{"a":1,"a":1}]')
    assert gc.isenabled()
    gc.disable()
    try:
        decode(large)
        assert not gc.isenabled()
    finally:
        gc.enable()
