"""What handlers tell: what is refused, what is cut, and what is stored."""

import json
from decimal import Decimal
from fractions import Fraction

import pytest

from quarterdeck import JobContext, Unavailable
from quarterdeck.domain.errors import ResultError
from quarterdeck.domain.recorded import MAX_LINE, checked_line, checked_progress, log_entry, output_entry


@pytest.mark.parametrize(
    "fraction", [True, False, float("nan"), float("inf"), -0.001, 1.001, 10**400, "0.5", None, Decimal("0.5"), 1j]
)
def test_what_is_no_fraction_is_refused(fraction):
    with pytest.raises(ValueError, match="from 0 to 1"):
        checked_progress(fraction, None)


@pytest.mark.parametrize(("fraction", "kept"), [(0, 0.0), (1, 1.0), (0.42, 0.42), (Fraction(1, 4), 0.25)])
def test_a_fraction_is_kept(fraction, kept):
    assert checked_progress(fraction, None) == (kept, None)


def test_words_are_cut_to_1024_characters():
    assert checked_progress(0, "ü" * 1025) == (0.0, "ü" * 1024)
    assert checked_progress(0, 7) == (0.0, "7")


@pytest.mark.parametrize("level", ["", "INFO", "critical", None, 20, []])
def test_an_unknown_level_is_refused(level):
    with pytest.raises(ValueError, match="debug, info, warning, error"):
        checked_line("a", level)


@pytest.mark.parametrize("text", ["x", "ü", "€", "😀", "\ud800", "ax€"], ids=ascii)
@pytest.mark.parametrize("less", [0, 1, 2, 3])
def test_a_line_is_cut_between_characters(text, less):
    whole = "y" * less + text * MAX_LINE
    _, kept = checked_line(whole, "info")
    size = len(kept.encode("utf-8", "surrogatepass"))
    assert MAX_LINE - 4 < size <= MAX_LINE
    assert whole.startswith(kept)


def test_a_line_that_fits_is_kept_whole():
    assert checked_line("x" * MAX_LINE, "debug") == ("debug", "x" * MAX_LINE)
    assert checked_line(ValueError("no"), "error") == ("error", "no")


def test_text_is_stored_as_it_is_where_it_can_be():
    assert log_entry("info", "ü\0").data == '{"level":"info","message":"ü\\u0000"}'
    assert json.loads(log_entry("info", "\ud800").data)["message"] == "\ud800"
    assert log_entry("info", "\ud800").data.encode()


@pytest.mark.parametrize(
    "value", [object(), float("nan"), b"", "x" * 1024 * 1024], ids=["object", "nan", "bytes", "1 MiB"]
)
def test_an_output_is_json_of_at_most_1_mib(value):
    with pytest.raises(ResultError, match=r"^the output"):
        output_entry(value)
    assert output_entry("x" * (1024 * 1024 - 2)).data


async def test_a_context_without_a_service_only_checks():
    ctx = JobContext(None, None, {}, None)
    await ctx.progress(0.5, "half")
    await ctx.log("a line", "warning")
    await ctx.output({"a": 1})
    with pytest.raises(ValueError, match="0 to 1"):
        await ctx.progress(2)
    with pytest.raises(ValueError, match="level"):
        await ctx.log("a", "loud")
    with pytest.raises(ResultError):
        await ctx.output(object())
    with pytest.raises(Unavailable):
        await ctx.publish("topic", 1)
