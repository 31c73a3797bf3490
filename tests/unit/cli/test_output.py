"""What is printed: whole for programs, harmless for terminals."""

import json

import pytest

from quarterdeck.cli.output import print_json, printable
from quarterdeck.cli.tables import show_job, show_table

JOB = {
    "id": "some-id",
    "kind": "thumbnail",
    "queue": "images",
    "state": "retryable",
    "state_reason": None,
    "attempt": 1,
    "max_attempts": 5,
    "tags": [],
    "args": {"url": "[bold]x[/bold]"},
    "errors": [
        {"attempt": 1, "at": "then", "type": "ValueError", "message": "no\x1b[2J", "traceback": "line 1\nline 2"}
    ],
}


@pytest.mark.parametrize(
    "value", [{"a": [1, None, "é 漢"]}, "lone \ud800 surrogate", "\x00\x1b[31m", [], "a\u2028b", 10**30]
)
def test_json_comes_out_as_it_went_in(value, capfdbinary):
    print_json(value)
    assert json.loads(capfdbinary.readouterr().out) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain é\nand\ttabs", "plain é\nand\ttabs"),
        ("\x1b[2J\x07\x7f\x9b", "\\x1b[2J\\x07\\x7f\\x9b"),
        ("\r", "\\x0d"),
        ("\udcff", "\\udcff"),
        ({"a": "\x1b"}, '{"a": "\\u001b"}'),
        (None, "null"),
        (1.5, "1.5"),
    ],
)
def test_nothing_that_a_terminal_obeys_is_printed(value, text):
    assert printable(value) == text


def test_a_job_is_shown_with_what_went_wrong(capsys):
    show_job(JOB)
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines()]
    assert ["job", "some-id"] in lines
    assert ["attempt", "1", "of", "5"] in lines
    assert ["args", '{"url":', '"[bold]x[/bold]"}'] in lines
    assert ["attempt", "1", "failed", "at", "then:", "ValueError:", "no\\x1b[2J"] in lines
    assert ["line", "2"] in lines
    assert not any(line[:1] in (["tags"], ["state_reason"]) for line in lines), "what is not set is left out"


def test_a_table_shows_its_columns_and_rows(capsys):
    show_table(("name", "n"), [("a[b]", 7), ("c", 1.5)], title="Things")
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == ["Things"]
    assert lines[1] == ["name", "n"]
    assert lines[-2:] == [["a[b]", "7"], ["c", "1.5"]]
