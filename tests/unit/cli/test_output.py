"""What is printed: whole for programs, harmless for terminals."""

import json
import sys

import pytest

from quarterdeck.cli.job_view import LAST_ERRORS, LONGEST_VALUE, show_job
from quarterdeck.cli.output import hint, print_json, printable
from quarterdeck.cli.tables import show_table

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


def test_of_many_errors_and_of_long_values_the_end_is_shown(capsys):
    errors = [{**JOB["errors"][0], "attempt": n, "message": f"no {n}"} for n in range(1, 6)]
    show_job({**JOB, "errors": errors, "metadata": {"text": "x" * 2 * LONGEST_VALUE}})
    shown = capsys.readouterr().out
    assert f"{5 - LAST_ERRORS} earlier errors: --json has them" in shown
    assert [f"no {n}" in shown for n in range(1, 6)] == [False, False, True, True, True]
    assert "x… (--json has all of it)" in shown
    assert "x" * (LONGEST_VALUE + 1) not in shown


def test_a_job_s_times_say_how_long_it_took(capsys):
    times = {
        "created_at": "2026-01-31T12:00:00.000Z",
        "run_at": "2026-01-31T12:00:00.000Z",
        "attempted_at": "2026-01-31T12:00:00.250Z",
        "finalized_at": "2026-01-31T12:01:00.250Z",
    }
    show_job({**JOB, **times, "state": "completed", "result": None, "errors": [], "timeout": 60.0})
    lines = [line.rstrip().split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["attempted_at", "2026-01-31T12:00:00.250Z (0.250 s after it was due)"] in lines
    assert ["finalized_at", "2026-01-31T12:01:00.250Z (60.000 s after its last start)"] in lines
    assert ["timeout", "60 s"] in lines
    assert ["result", "null"] in lines, "of a completed job that is what it returned"
    assert not any(line[0] == "run_at" for line in lines if line), "it says no more than created_at"


def test_a_job_is_shown_with_what_it_wrote_last(capsys):
    log = {"at": "then", "level": "info", "message": "two\nlines \x1b[2J"}
    show_job({**JOB, "progress": {"fraction": 0.42, "message": "12 of 29"}}, [log], [{"at": "now", "data": {"n": 1}}])
    shown = capsys.readouterr().out
    assert "log\n  then info two lines \\x1b[2J\n" in shown
    assert 'output\n  now {"n": 1}\n' in shown
    assert ["progress", "42%", "12", "of", "29"] in [line.split() for line in shown.splitlines()]


ROW = ("0193b5c0-7a1e-7c3d-9f00-3b1a2c4d5e6f", "discarded (attempts_exhausted)", "thumbnail", "images", 5)
COLUMNS = ("id", "state", "kind", "queue", "priority")


def on_a_terminal(columns, monkeypatch, **environment):
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": str(columns), **environment}.items():
        monkeypatch.setenv(name, value)


def test_a_narrow_terminal_gets_fewer_columns_and_whole_ids(capsys, monkeypatch):
    on_a_terminal(95, monkeypatch, NO_COLOR="1")
    show_table(COLUMNS, [ROW], droppable=("priority", "queue"))
    out, err = capsys.readouterr()
    assert ROW[0] in out
    assert "priority" not in out
    assert "images" in out, "one column less was enough"
    assert err == "left out for want of room: priority; --json has everything\n"
    on_a_terminal(200, monkeypatch)
    show_table(COLUMNS, [ROW], droppable=("priority", "queue"))
    out, err = capsys.readouterr()
    assert ("priority" in out, err) == (True, "")


@pytest.mark.parametrize("columns", [20, 40, 60])
def test_however_narrow_a_terminal_nothing_is_cut(columns, capsys, monkeypatch):
    on_a_terminal(columns, monkeypatch, NO_COLOR="1")
    show_table(COLUMNS, [ROW], droppable=("priority", "queue"))
    show_job({**JOB, "id": ROW[0]})
    table, job = capsys.readouterr().out.split("job ", 1)
    assert ROW[0] in table
    assert "…" not in table
    shown = "".join(job.partition("kind ")[0].split())
    assert shown == ROW[0], "the id of a job is broken at most"


def test_a_pipe_gets_every_row_on_one_line_however_wide(capsys):
    long = "k" * 700
    show_table(("id", "kind", "more"), [("an-id", long, "y y " * 100)], droppable=("kind",))
    out, err = capsys.readouterr()
    (line,) = [line for line in out.splitlines() if "an-id" in line]
    assert long in line
    assert "y y " * 99 in line
    assert err == ""


def test_colours_are_for_terminals_that_want_them(capsys, monkeypatch):
    red = "\x1b[31m"
    show_table(COLUMNS, [ROW])
    assert "\x1b" not in capsys.readouterr().out
    on_a_terminal(200, monkeypatch)
    show_table(COLUMNS, [ROW])
    assert red in capsys.readouterr().out
    on_a_terminal(200, monkeypatch, NO_COLOR="1")
    show_table(COLUMNS, [ROW])
    assert red not in capsys.readouterr().out


def test_an_empty_table_says_so_beside_the_output(capsys):
    show_table(COLUMNS, [], empty="no such jobs")
    assert capsys.readouterr() == ("", "no such jobs\n")


@pytest.mark.parametrize(
    ("out", "err", "shown"), [(True, True, "\x1b[2mgo on\x1b[0m\n"), (False, True, ""), (True, False, "")]
)
def test_hints_are_for_people_alone(out, err, shown, capsys, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for stream, is_terminal in ((sys.stdout, out), (sys.stderr, err)):
        monkeypatch.setattr(stream, "isatty", lambda is_terminal=is_terminal: is_terminal)
    hint("go on")
    assert capsys.readouterr() == ("", shown)
