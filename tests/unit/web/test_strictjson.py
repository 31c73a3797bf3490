import json

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
    "text", [b'"\\ud800\\ud800"', b'"\\udc00"', b'"\\ud800x"', b'"\\ud83d\\u0041"', b'["\\udead"]  ']
)
def test_lone_surrogates_are_well_formed_but_not_stored(text):
    assert refused(text)[0] == 422


@pytest.mark.parametrize("text", [b'["\\ud800",]', b'"\\ud800', b'{"a":"\\ud800"', b'"\\ud80"'])
def test_lone_surrogates_do_not_make_bad_json_good(text):
    assert refused(text)[0] == 400
