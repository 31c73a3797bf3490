"""Durations as users write them, in settings, options and request bodies."""

import math
import re

MAX_SECONDS = 10 * 365.25 * 86_400
"""The longest duration accepted: ten years."""

_UNITS = {"w": 604_800.0, "d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"


def _pattern(*units: str) -> re.Pattern[str]:
    return re.compile("".join(rf"(?:{_NUMBER}{unit})?" for unit in units))


_SHORT = _pattern("d", "h", "m", "s", "ms")
_ISO_DATE = _pattern("W", "D")
_ISO_TIME = _pattern("H", "M", "S")

_LONGEST_TEXT = 64
_EXPECTED = "expected a number of seconds, or text such as '250ms', '10s', '5m', '2h', '1d' or 'PT1H30M'"


def parse_duration(value: object) -> float:
    """Return `value` in seconds.

    Takes a number of seconds, a short form ("250ms", "10s", "1.5h", "1h30m", units from the largest to the smallest) or
    an ISO 8601 duration of weeks, days, hours, minutes and seconds ("PT10S", "P1DT2H"). ISO years and months are
    refused, because their length depends on a date.

    Raises:
        ValueError: anything else, a negative or infinite number, more than ten years.
    """
    if isinstance(value, str):
        seconds: float | None = _from_text(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = None if isinstance(value, float) and math.isnan(value) else value
    else:
        seconds = None
    if seconds is None:
        raise ValueError(f"{_shown(value)} is not a duration: {_EXPECTED}")
    if seconds < 0:
        raise ValueError(f"{_shown(value)} is not a duration: it must not be negative")
    if seconds > MAX_SECONDS:
        raise ValueError(f"{_shown(value)} is too long: a duration is at most 10 years")
    return float(seconds) + 0.0  # -0.0 becomes 0.0


def _from_text(text: str) -> float | None:
    if not 0 < len(text) <= _LONGEST_TEXT:
        return None
    if short := _SHORT.fullmatch(text):
        return _total(short.groups(), ("d", "h", "m", "s", "ms"))
    date, designator, time = text.removeprefix("P").partition("T")
    days, clock = _ISO_DATE.fullmatch(date), _ISO_TIME.fullmatch(time)
    # "P" names no amount, and neither does a "T" with nothing after it.
    if not text.startswith("P") or not days or not clock or not (date or time) or bool(designator) != bool(time):
        return None
    return _total(days.groups() + clock.groups(), ("w", "d", "h", "m", "s"))


def _total(amounts: tuple[str | None, ...], units: tuple[str, ...]) -> float:
    """Add the amounts up, to the microsecond that the database keeps."""
    pairs = zip(amounts, units, strict=True)
    return round(math.fsum(float(amount) * _UNITS[unit] for amount, unit in pairs if amount), 6)


def _shown(value: object) -> str:
    """Return `value` for a message, cut to a readable length."""
    if isinstance(value, int) and abs(value) > MAX_SECONDS:
        return "a number that large"  # repr() refuses ints of thousands of digits
    text = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
