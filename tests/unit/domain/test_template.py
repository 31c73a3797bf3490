import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from quarterdeck.domain.errors import InvalidSubmit
from quarterdeck.domain.template import MAX_KEY_CHARACTERS, render

NAMES = st.text("ab", max_size=2)
VALUES = st.text(max_size=3) | st.recursive(
    st.none() | st.booleans() | st.integers(0, 999),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
    max_leaves=4,
)
PARTS = st.sampled_from(["{{", "}}", "-", "é"]) | NAMES.map("{{{}}}".format)


def refusal(template, args):
    with pytest.raises(InvalidSubmit) as refused:
        render(template, args, "/unique/key")
    (error,) = refused.value.errors
    assert error.pointer == "/unique/key"
    return error.detail


@given(st.lists(PARTS, max_size=8), st.dictionaries(NAMES, VALUES))
def test_a_key_is_its_parts_one_after_another(parts, args):
    def rendered(part):
        if part in ("{{", "}}") or not part.startswith("{"):
            return part[0]
        value = args[part[1:-1]]
        return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), sort_keys=True)

    missing = [part for part in parts if len(part) > 1 and part[1:-1] not in args and part not in ("{{", "}}")]
    if missing:
        assert refusal("".join(parts), args) == f"there is no argument {missing[0][1:-1]!r}"
        return
    key = "".join(map(rendered, parts))
    assume(0 < len(key) <= MAX_KEY_CHARACTERS)
    assert render("".join(parts), args, "") == key


@pytest.mark.parametrize(
    ("template", "args"),
    [
        ("", {}),
        ("{a}", {"a": ""}),
        ("x" * 513, {}),
        ("{a}", {"a": "x" * 513}),
        ("{a}", {"a": ["x" * 509]}),
        ("{a}{a}", {"a": "x" * 257}),
        ("x" + "{}" * 500_000, {"": ""}),
        ("{a}" * 170, {"a": "x" * 1_000_000}),
        ("{a}" * 170, {"a": ["x"] * 250_000}),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_key_has_1_to_512_characters_and_so_has_its_template(template, args):
    assert refusal(template, args) == f"the key must have 1 to {MAX_KEY_CHARACTERS} characters"


@pytest.mark.parametrize(
    ("template", "args"), [("x" * 512, {}), ("{a}", {"a": "é" * 512}), ("{a}{a}", {"a": "x" * 256})], ids=lambda _: ""
)
def test_the_longest_key_is_taken(template, args):
    assert len(render(template, args, "")) == MAX_KEY_CHARACTERS


@pytest.mark.parametrize("template", ["{", "}", "{{}", "a}b", "{a{b}}"])
def test_a_lone_brace_is_refused(template):
    assert refusal(template, {"a": 1, "b": 2}).startswith("a lone brace")
