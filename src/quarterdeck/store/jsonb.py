"""jsonb on the wire: encoded and decoded by msgspec."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

_DECODE = msgspec.json.Decoder().decode
_ENCODE = msgspec.json.Encoder().encode
_VERSION = b"\x01"
_MANY_DIGITS = re.compile(rb"[0-9]{19}")
_LEAST, _GREATEST = -(2**63), 2**64 - 1


def encode(value: Any) -> bytes:
    """A JSON value in the binary format of jsonb."""
    return _VERSION + _ENCODE(value)


def decode(data: bytes) -> Any:
    """The value of a jsonb in its binary format.

    jsonb writes 1e300 as a whole number of 301 digits. No whole number beyond 64 bit is ever stored, so such a one was
    a double, and is one again.
    """
    text = memoryview(data)[1:]
    if _MANY_DIGITS.search(text) is None:
        return _DECODE(text)
    return json.loads(bytes(text), parse_int=_number)


def _number(digits: str) -> int | float:
    # Longer ones are not made into an int first: that takes the square of their length.
    if len(digits) <= len(str(_LEAST)):
        number = int(digits)
        if _LEAST <= number <= _GREATEST:
            return number
    return float(digits)
