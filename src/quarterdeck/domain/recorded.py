"""What handlers tell of their work while they do it: checked, cut to size, and as the JSON text that is stored."""

from __future__ import annotations

import json
import numbers
from typing import Any, Literal, Protocol

import msgspec

from quarterdeck.domain.errors import ResultError
from quarterdeck.domain.jsonvalue import encode_result

LEVELS = ("debug", "info", "warning", "error")
MAX_PROGRESS_MESSAGE = 1024
"""Characters of the words that go with a progress."""
MAX_LINE = 16 * 1024
"""Bytes of a log line as UTF-8."""


class Entry(msgspec.Struct, frozen=True):
    """One event that a handler caused, and its content as JSON text."""

    event: Literal["progress", "log", "output"]
    data: str


class Recording(Protocol):
    """Where an attempt's entries go. Each call returns as soon as they are taken."""

    async def progress(self, fraction: float, message: str | None) -> None:
        """Takes how far the job is."""

    async def log(self, level: str, message: str) -> None:
        """Takes a line."""

    async def output(self, entry: Entry) -> None:
        """Takes a value."""


def checked_progress(fraction: object, message: object) -> tuple[float, str | None]:
    """A progress as it is kept. Raises ValueError where `fraction` is no number from 0 to 1."""
    number: Any = fraction
    if isinstance(number, bool) or not isinstance(fraction, numbers.Real) or not 0 <= number <= 1:
        raise ValueError(f"a progress is a number from 0 to 1, not {fraction!r:.80}")
    return float(number), None if message is None else str(message)[:MAX_PROGRESS_MESSAGE]


def checked_line(message: object, level: str) -> tuple[str, str]:
    """Level and text of a log line as it is kept. Raises ValueError where the level is none."""
    if level not in LEVELS:
        raise ValueError(f"a level is one of {', '.join(LEVELS)}, not {level!r:.80}")
    return level, _cut(str(message))


def progress_entry(fraction: float, message: str | None) -> Entry:
    """A progress as an event."""
    return Entry("progress", _text({"fraction": fraction, "message": message}))


def log_entry(level: str, message: str) -> Entry:
    """A log line as an event."""
    return Entry("log", _text({"level": level, "message": message}))


def output_entry(value: Any) -> Entry:
    """A value as an event. Raises ResultError where it is not JSON, or takes more than 1 MiB, as for results."""
    try:
        return Entry("output", encode_result(value))
    except ResultError as error:
        raise ResultError(str(error).replace("the result", "the output", 1)) from None


def _cut(text: str) -> str:
    encoded = text[:MAX_LINE].encode("utf-8", "surrogatepass")
    if len(encoded) <= MAX_LINE:
        return text[:MAX_LINE]
    end = MAX_LINE
    while encoded[end] & 0xC0 == 0x80:  # in the middle of a character
        end -= 1
    return encoded[:end].decode("utf-8", "surrogatepass")


def _text(value: dict[str, Any]) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate: only its escape can be stored
        return json.dumps(value, separators=(",", ":"))
    return text
