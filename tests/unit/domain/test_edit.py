import datetime as dt

import msgspec
import pytest

from quarterdeck.domain.edit import Edit
from quarterdeck.domain.errors import InvalidSubmit

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
FIELDS = {"args": {"a": 1}, "priority": 0, "run_at": NOON, "tags": ["t"] * 32, "metadata": {}, "queue": "q"}


@pytest.mark.parametrize("fields", [{}, FIELDS, *({name: value} for name, value in FIELDS.items())])
def test_what_keeps_the_rules_passes(fields):
    Edit(**fields).check()


@pytest.mark.parametrize(
    ("fields", "pointers"),
    [
        ({"args": {"a": "\0"}}, ["/args/a"]),
        ({"args": {"a": "x" * 1024 * 1024}}, ["/args"]),
        ({"priority": 10}, ["/priority"]),
        ({"priority": -1}, ["/priority"]),
        ({"run_at": NOON.replace(tzinfo=None)}, ["/run_at"]),
        ({"run_at": NOON.replace(year=9999)}, ["/run_at"]),
        ({"tags": ["t"] * 33}, ["/tags"]),
        ({"tags": ["t", ""]}, ["/tags/1"]),
        ({"metadata": {"a": "x" * 16 * 1024}}, ["/metadata"]),
        ({"queue": "no name"}, ["/queue"]),
        ({"priority": 10, "queue": ""}, ["/priority", "/queue"]),
    ],
)
def test_every_rule_that_is_broken_is_told(fields, pointers):
    with pytest.raises(InvalidSubmit) as refused:
        Edit(**fields).check()
    assert [error.pointer for error in refused.value.errors] == pointers


@pytest.mark.parametrize("name", FIELDS)
def test_no_field_may_be_null(name):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({name: None}, Edit)


@pytest.mark.parametrize("name", ["kind", "id", "state", "timeout", "unique", "delay"])
def test_no_other_field_may_be_changed(name):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({name: 1}, Edit)
