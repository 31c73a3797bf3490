"""The `Prefer` header (RFC 7240), of which this service knows `wait`."""

import re
from collections.abc import Iterable

MAX_WAIT = 60
"""Seconds that an answer is held at most, whatever was asked for."""

# A comma between quotes divides nothing. A quote that is never closed takes the rest, so that no text is scanned twice.
_PREFERENCE = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.?)*+(?:"|$))+')
_WAIT = re.compile(r'\s*wait\s*=\s*(?:([0-9]+)|"([0-9]+)")\s*(?:;.*)?', re.IGNORECASE)
_MANY_DIGITS = 6


def wait_seconds(headers: Iterable[str]) -> int | None:
    """How long the answer may be held, 0 to 60 seconds; None where nobody asked.

    Other preferences and malformed ones are ignored, as is every `wait` after the first.
    """
    for header in headers:
        for preference in _PREFERENCE.findall(header):
            if wait := _WAIT.fullmatch(preference):
                digits = (wait[1] or wait[2]).lstrip("0")
                return MAX_WAIT if len(digits) > _MANY_DIGITS else min(int(digits or 0), MAX_WAIT)
    return None
