import enum
import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.domain.errors import ResultError
from quarterdeck.domain.jsonvalue import MAX_DEPTH, MAX_RESULT_BYTES, check, encode_result, locate, pointer

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
# Text of all code points: NUL and lone surrogates among them.
ANY_TEXT = st.text(st.characters(codec=None, categories=None))
DOCUMENTS = st.recursive(
    SCALARS | ANY_TEXT, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner), max_leaves=8
)


class Unwilling:
    def __repr__(self) -> str:
        raise RuntimeError("not now")

    def __str__(self) -> str:
        raise RuntimeError("not now")


def nested(depth: int) -> object:
    value: object = 0
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def findings(value: object) -> list[tuple[str, str]]:
    return [(found.pointer, found.detail) for found in check(value)]


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, 0, -(2**63), 2**64 - 1, 0.5, -0.0, 1e308, "", "é", "😀", [], {}, (1, 2)),
        {"a": [1, {"b": None}]},
        nested(MAX_DEPTH),
    ],
)
def test_what_json_can_hold_has_no_flaw(value):
    assert check(value) == []


@pytest.mark.parametrize(
    ("value", "place", "flaw"),
    [
        (2**64, "", "a number beyond 64 bit"),
        (-(2**63) - 1, "", "a number beyond 64 bit"),
        pytest.param(10**5000, "", "a number beyond 64 bit", id="thousands of digits"),
        (math.nan, "", "not a finite number"),
        (math.inf, "", "not a finite number"),
        ({"a": [0, -math.inf]}, "/a/1", "not a finite number"),
        ("a\0b", "", "contains a NUL character"),
        ("\ud800", "", "contains a lone surrogate"),
        ({"a": {"b": "\udfff"}}, "/a/b", "contains a lone surrogate"),
        ({"a": {"b\0": 1}}, "/a", "in a key: contains a NUL character"),
        ({"a": {"\ud800": 1}}, "/a", "in a key: contains a lone surrogate"),
        ({"a": b"bytes"}, "/a", "not a JSON value: bytes"),
        ({"a": {1, 2}}, "/a", "not a JSON value: set"),
        ({"a/b": {"c~d": object()}}, "/a~1b/c~0d", "not a JSON value: object"),
        ({"": {"": math.nan}}, "//", "not a finite number"),
    ],
)
def test_a_flaw_is_found_with_its_place(value, place, flaw):
    assert findings(value) == [(place, flaw)]


@pytest.mark.parametrize("key", [1, None, 10**5000, Unwilling()], ids=["1", "None", "thousands of digits", "no repr"])
def test_a_key_that_is_no_string_is_a_flaw_even_if_it_cannot_be_shown(key):
    ((place, flaw),) = findings({"a": {key: 1}})
    assert place == "/a"
    assert flaw.startswith("a key that is not a string")


def test_the_place_is_below_where_the_document_is():
    assert check({"x": math.nan}, ("args",))[0].pointer == "/args/x"


def test_a_document_that_is_nested_too_deeply_is_a_flaw_however_deep_it_is():
    for depth in (MAX_DEPTH + 1, 100_000):
        ((place, flaw),) = findings(nested(depth))
        assert flaw == f"nested deeper than {MAX_DEPTH}"
        assert place.count("/") == MAX_DEPTH


def test_a_document_that_contains_itself_is_nested_too_deeply():
    loop: dict[str, object] = {}
    loop["again"] = loop
    assert [flaw for _, flaw in findings(loop)] == [f"nested deeper than {MAX_DEPTH}"]


def test_at_most_ten_flaws_are_told():
    assert len(check([math.nan] * 1000)) == 10


def plainly_flawed(value: object, depth: int = 1) -> bool:
    """Whether a value cannot be stored, found in the plainest way."""
    match value:
        case None | bool():
            return False
        case str():
            return "\0" in value or any("\ud800" <= character <= "\udfff" for character in value)
        case int():
            return not -(2**63) <= value < 2**64
        case float():
            return not math.isfinite(value)
        case dict() | list() | tuple():
            keys, items = (value.keys(), value.values()) if isinstance(value, dict) else ((), value)
            return (
                depth > MAX_DEPTH
                or any(not isinstance(key, str) or plainly_flawed(key) for key in keys)
                or any(plainly_flawed(item, depth + 1) for item in items)
            )
    return True


ANYTHING = st.recursive(
    SCALARS
    | ANY_TEXT
    | st.floats()
    | st.sampled_from([1e308, -1e308, 2**63, -(2**63), 2**64, True, b"", object(), *map(nested, (30, 31, 32, 33))]),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.dictionaries(ANY_TEXT, inner)
        | st.dictionaries(st.integers() | st.booleans(), inner, max_size=1)
    ),
    max_leaves=12,
)


@given(ANYTHING)
def test_a_flaw_is_found_wherever_a_plain_search_finds_one(value):
    assert bool(check(value)) == plainly_flawed(value)


@pytest.mark.parametrize(
    ("path", "text"),
    [((), ""), (("a",), "/a"), (("a", 0, "b"), "/a/0/b"), (("a/b",), "/a~1b"), (("a~b",), "/a~0b"), (("~1",), "/~01")],
)
def test_a_path_is_written_as_a_json_pointer(path, text):
    assert pointer(path) == text


@given(DOCUMENTS)
def test_a_document_without_a_flaw_survives_its_encoding(document):
    if not check(document):
        assert msgspec.json.decode(msgspec.json.encode(document)) == document


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    width: int


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    inner: Inner | None = None
    many: list[Inner] = []
    named: dict[str, int] = {}


@pytest.mark.parametrize(
    ("document", "place", "detail"),
    [
        (5, "", "expected object, got int"),
        ({"inner": {"width": "x"}}, "/inner/width", "expected int, got str"),
        ({"inner": {}}, "/inner/width", "required, and not given"),
        ({"many": [{"width": 1}, {"width": None}]}, "/many/1/width", "expected int, got null"),
        ({"other": 1}, "/other", "unknown field"),
        ({"inner": {"width": 1, "height": 2}}, "/inner/height", "unknown field"),
        ({"many": [{"width": 1, "height": 2}]}, "/many/0/height", "unknown field"),
        ({"named": {"a": "x"}}, "/named", "expected int, got str"),
        ({"named": {1: 1}}, "/named", "in a key: Expected str, got int"),
        ({"a.b": 1}, "/a.b", "unknown field"),
        ({"a/b": 1}, "/a~1b", "unknown field"),
        ({"a~b": 1}, "/a~0b", "unknown field"),
        ({"inner": {"width": 1, "a[0]/b": 2}}, "/inner/a[0]~1b", "unknown field"),
        ({"a - at `$.inner` b": 1}, "/a - at `$.inner` b", "unknown field"),
    ],
)
def test_a_misfit_is_located_by_a_pointer(document, place, detail):
    with pytest.raises(msgspec.ValidationError) as misfit:
        msgspec.convert(document, Outer)
    error = locate(misfit.value, "/args")
    assert (error.pointer, error.detail) == ("/args" + place, detail)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        ({"b": 1, "a": [1.5, "é"]}, '{"b":1,"a":[1.5,"é"]}'),
        ((1, 2), "[1,2]"),
        ("a\0b", r'"a\u0000b"'),
        ("\ud800é", r'"\ud800\u00e9"'),
        ({"\udfff": 1}, r'{"\udfff":1}'),
        (10**30, "1" + "0" * 30),
    ],
)
def test_a_result_is_written_as_compact_json_in_its_own_order(value, text):
    assert encode_result(value) == text


@given(DOCUMENTS)
def test_every_string_survives_in_a_result(document):
    text = encode_result(document)
    assert json.loads(text) == document
    text.encode()


class Hostile(dict):
    def items(self):
        raise Unspeakable


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not now")


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        [math.inf],
        {"a": -math.inf},
        b"bytes",
        {1, 2},
        object(),
        Unwilling(),
        Hostile(a=1),
        Colour.RED,
        {(1, 2): 3},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_json_is_refused_as_a_result(value):
    with pytest.raises(ResultError, match="the result is not JSON"):
        encode_result(value)


def test_a_result_that_contains_itself_is_refused():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ResultError):
        encode_result(loop)


def test_a_result_that_is_nested_too_deeply_is_refused():
    with pytest.raises(ResultError, match="nested too deeply"):
        encode_result(nested(100_000))


@pytest.mark.parametrize(
    ("fits", "too_large", "size"),
    [
        ("x" * (MAX_RESULT_BYTES - 2), "x" * (MAX_RESULT_BYTES - 1), MAX_RESULT_BYTES + 1),
        ("é" * (MAX_RESULT_BYTES // 2 - 1), "é" * (MAX_RESULT_BYTES // 2), MAX_RESULT_BYTES + 2),
        # A lone surrogate takes six bytes: its escape is what is stored.
        ("x" * (MAX_RESULT_BYTES - 8) + "\ud800", "x" * (MAX_RESULT_BYTES - 7) + "\ud800", MAX_RESULT_BYTES + 1),
    ],
    ids=["ascii", "utf-8", "surrogate"],
)
def test_a_result_may_take_a_mebibyte_and_no_byte_more(fits, too_large, size):
    assert len(encode_result(fits).encode()) <= MAX_RESULT_BYTES
    with pytest.raises(ResultError, match=f"the result takes {size} bytes of JSON; the limit is {MAX_RESULT_BYTES}"):
        encode_result(too_large)
