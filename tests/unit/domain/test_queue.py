import msgspec
import pytest

from quarterdeck.domain.errors import InvalidSettings
from quarterdeck.domain.queue import LATER, QueuePatch, checked, is_queue_name


@pytest.mark.parametrize("document", [{}, {"paused": True}, {"max_depth": 1}, {"max_depth": None, "paused": None}])
def test_what_this_release_has_may_be_set(document):
    patch = msgspec.convert(document, QueuePatch)
    assert checked(patch) is patch


@pytest.mark.parametrize("field", LATER)
def test_what_a_later_release_has_may_be_reset_only(field):
    assert checked(msgspec.convert({field: None}, QueuePatch))
    fitting = "100/1m" if field.startswith("rate") else 5
    with pytest.raises(InvalidSettings) as refused:
        checked(msgspec.convert({field: fitting}, QueuePatch))
    assert [(error.pointer, error.detail) for error in refused.value.errors] == [
        (f"/{field}", "not supported by this release")
    ]


def test_every_broken_rule_is_told():
    patch = msgspec.convert({"rate": "fast", "rate_per_key": "1/0s", "retention": 0}, QueuePatch)
    with pytest.raises(InvalidSettings, match="expected text such as") as refused:
        checked(patch)
    assert [error.pointer for error in refused.value.errors] == ["/rate", "/rate_per_key", "/retention"]
    assert not any("not supported" in error.detail for error in refused.value.errors)


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        *[(name, True) for name in ("default", "a.b:c-d_e", "_", "0", "x" * 128)],
        *[(name, False) for name in ("x" * 129, "", "-a", "a b", "a\n", "ä", "a/b", "a\0")],
    ],
)
def test_a_queue_may_be_called_what_a_name_may_be(name, legal):
    assert is_queue_name(name) is legal
