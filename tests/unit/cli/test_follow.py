"""How an event looks on one line."""

import datetime as dt
import uuid

import pytest

from quarterdeck.cli import exits
from quarterdeck.cli.follow import line_of
from quarterdeck.cli.main import run
from quarterdeck.client import Event

AT = dt.datetime(2026, 1, 31, 12, 0, 0, 250_000, dt.UTC)


@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        ("submitted", {"state": "available"}, "submitted"),
        ("progress", {"progress": {"fraction": 0.42, "message": "12 of 29"}}, "progress 42% 12 of 29"),
        ("progress", {"progress": {"fraction": 1, "message": None}}, "progress 100%"),
        ("log", {"level": "warning", "message": "two\nlines \x1b[2J"}, "log warning two lines \\x1b[2J"),
        ("output", {"output": {"n": [1, "é"]}}, 'output {"n": [1, "é"]}'),
        ("output", {"output": 0}, "output 0"),
        (
            "discarded",
            {"state_reason": "timeout", "error": {"type": "TimeoutError", "message": "after 5 s"}},
            "discarded timeout, TimeoutError: after 5 s",
        ),
        (
            "discarded",
            {"state_reason": "rejected", "state_detail": "no", "error": {"type": "TargetRefused", "message": "no"}},
            "discarded rejected, TargetRefused: no",
        ),
        ("discarded", {"error": {"$truncated": 70_000}}, "discarded"),
        ("cancelled", {"state_detail": "no use"}, "cancelled no use"),
        ("completed", {"result": None}, "completed null"),
        ("of_a_later_version", {"x": 1}, "of_a_later_version"),
    ],
)
def test_an_event_is_one_line(name, data, line):
    event = Event(event=f"job.{name}", job_id=uuid.uuid4(), seq=1, generation=1, cursor="1", at=AT, data=data)
    assert line_of(event) == f"2026-01-31T12:00:00.250Z {line}"


def test_what_is_no_id_is_told_as_a_job_that_is_not_there(capsys):
    assert run(["jobs", "watch", "nope", "--url", "http://127.0.0.1:1"]) == exits.NO_SERVICE
    assert capsys.readouterr().err.startswith("qd: there is no job nope; is the id right? `qd jobs list`")
