"""What `qd submit` makes of its arguments."""

import io
import json
import math

import click
import pytest

from quarterdeck.cli import exits
from quarterdeck.cli.arguments import read_object, read_pairs
from quarterdeck.cli.exits import CommandError
from quarterdeck.cli.submit import submit
from quarterdeck.cli.waiting import judge


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("200", 200),
        ("-1.5", -1.5),
        ("true", True),
        ("null", None),
        ("[1,2]", [1, 2]),
        ('{"a": 1}', {"a": 1}),
        ('"200"', "200"),
        ("plain", "plain"),
        ("", ""),
        ("a=b", "a=b"),
        ("True", "True"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("01", "01"),
        ("[1,", "[1,"),
        ("[" * 100_000, "[" * 100_000),
        ("2026-01-31", "2026-01-31"),
        ("9" * 30, int("9" * 30)),
    ],
)
def test_a_value_is_json_where_it_is_json_and_text_else(text, value):
    found = read_pairs([f"key={text}"])
    assert found == {"key": value}
    assert type(found["key"]) is type(value)


@pytest.mark.parametrize(("text", "value"), [("1.10", 1.1), ('"1.10"', "1.10"), ("[]", []), ("null", None)])
def test_a_value_after_a_colon_and_an_equals_sign_is_json(text, value):
    assert read_pairs([f"key:={text}"]) == {"key": value}


@pytest.mark.parametrize("text", ["plain", "", "[1,", "NaN", "01"])
def test_a_value_that_has_to_be_json_is_refused_where_it_is_not(text):
    with pytest.raises(click.UsageError, match="the value of 'key' is not JSON"):
        read_pairs([f"key:={text}"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' stands twice"),
        ('[{"b": {"c": 1, "d": 2, "c": 1}}]', "the key 'c' stands twice"),
        ("1e999", "1e999 is too large a number"),
        ('{"a": [-1e400]}', "-1e400 is too large a number"),
    ],
)
def test_json_that_would_arrive_as_something_else_is_refused(text, why):
    for pair in (f"key={text}", f"key:={text}"):
        with pytest.raises(click.UsageError, match=f"^the value of 'key': {why}.$"):
            read_pairs([pair])
    with pytest.raises(click.UsageError, match=f"^--args: {why}.$"):
        read_object(f'{{"args": {text}}}', "--args")


def test_the_same_name_in_both_forms_is_given_twice():
    with pytest.raises(click.UsageError, match="'a' is given twice"):
        read_pairs(["a=1", "a:=1"])


def test_args_come_from_an_option_a_file_or_the_input(tmp_path, monkeypatch):
    file = tmp_path / "args.json"
    file.write_text('{"from": "file"}')
    monkeypatch.setattr("sys.stdin", io.StringIO('{"from": "input"}'))
    assert read_object('{"from": "option"}', "--args") == {"from": "option"}
    assert read_object(f"@{file}", "--args") == {"from": "file"}
    assert read_object("-", "--args") == {"from": "input"}
    assert read_object(None, "--args") == {}
    monkeypatch.setattr("sys.stdin", None)  # as Python has it where the input is closed
    with pytest.raises(click.UsageError, match="--args is not JSON"):
        read_object("-", "--args")


@pytest.mark.parametrize(
    ("arguments", "wait", "pairs"),
    [
        (["kind"], None, ()),
        (["kind", "--wait"], math.inf, ()),
        (["kind", "--wait", "5"], 5.0, ()),
        (["kind", "--wait", "1m"], 60.0, ()),
        (["kind", "--wait=2.5"], 2.5, ()),
        (["kind", "--wait", "0"], 0.0, ()),
        (["--wait", "kind", "a=1"], math.inf, ("a=1",)),
        (["kind", "--wait", "a=1"], math.inf, ("a=1",)),
        (["kind", "--wait", "--queue", "q"], math.inf, ()),
        (["kind", "--wait", "5", "a=1"], 5.0, ("a=1",)),
        (["kind", "a=1", "--wait"], math.inf, ("a=1",)),
        (["kind", "--", "--wait"], None, ("--wait",)),
    ],
)
def test_wait_takes_only_a_time_as_its_value(arguments, wait, pairs):
    ctx = submit.make_context("submit", list(arguments))
    assert (ctx.params["kind"], ctx.params["wait"], ctx.params["pairs"]) == ("kind", wait, pairs)


@pytest.mark.parametrize(
    ("text", "value"), [("90", 90.0), ("1.5", 1.5), ("10s", "10s"), ("soon", "soon"), ("inf", "inf")]
)
def test_a_duration_without_a_unit_is_one_of_seconds(text, value):
    ctx = submit.make_context("submit", ["kind", "--delay", text, "--ttl", text, "--timeout", text])
    assert [ctx.params[name] for name in ("delay", "ttl", "timeout")] == [value] * 3


def test_tags_may_be_given_several_times():
    ctx = submit.make_context("submit", ["kind", "--tag", "a", "--tag", "b"])
    assert ctx.params["tags"] == ("a", "b")


def test_a_pair_without_a_name_is_refused():
    with pytest.raises(click.UsageError, match="'=1' is no key=value"):
        read_pairs(["=1"])


def job(state, **fields):
    return {"id": "some-id", "state": state, "state_reason": None, "state_detail": None, "errors": [], **fields}


def test_a_completed_job_is_exit_code_0():
    assert judge(job("completed"), math.inf) == exits.DONE


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (job("cancelled", state_detail="not needed"), "job some-id was cancelled: not needed"),
        (
            job(
                "discarded",
                state_reason="attempts_exhausted",
                errors=[{"type": "OSError", "message": "first"}, {"type": "ValueError", "message": "bad \x1b[2J"}],
            ),
            "job some-id was discarded: attempts_exhausted, ValueError: bad \\x1b[2J",
        ),
    ],
)
def test_a_job_that_did_not_complete_is_exit_code_1_and_says_why(ended, words):
    with pytest.raises(CommandError) as caught:
        judge(ended, math.inf)
    assert (caught.value.message, caught.value.exit_code) == (words, exits.JOB_FAILED)


def test_a_job_that_has_not_ended_in_time_is_no_success():
    with pytest.raises(CommandError) as caught:
        judge(job("running"), 5.0)
    assert caught.value.message == "job some-id is running after 5 s: `qd jobs show some-id` tells how it goes on"
    assert caught.value.exit_code == exits.NO_SERVICE


def test_arguments_that_no_text_can_hold_still_become_json():
    document = {"args": read_pairs(["name=\udcff"])}
    assert json.loads(json.dumps(document)) == document
