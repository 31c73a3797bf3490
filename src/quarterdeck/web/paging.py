"""Cursors of lists that are ordered by a name, or a moment and a name."""

from __future__ import annotations

import base64
import binascii
import re

import msgspec

from quarterdeck.web.problems import BAD_QUERY, Refusal

_DIGITS = 19  # with so many, a number may not fit into 64 bits
_OPAQUE = re.compile(r"[A-Za-z0-9_-]{1,1000}")


def number_of(text: str) -> int | None:
    """The number that stands for a place among events or messages; None where it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < _DIGITS else None


def cursor_of(*place: str) -> str:
    """An opaque cursor that stands for a place in a list."""
    text = msgspec.json.encode(place)
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def place_of(cursor: str, parts: int) -> list[str]:
    """The place that a cursor stands for, of so many parts. Raises Refusal where it is none of ours."""
    try:
        if _OPAQUE.fullmatch(cursor):
            text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            place = msgspec.json.decode(text, type=list[str])
            if len(place) == parts and not any("\0" in part for part in place):
                return place
    except (binascii.Error, msgspec.MsgspecError, UnicodeDecodeError):
        pass
    raise Refusal(BAD_QUERY, "Parameter 'cursor': it is not one that this list has given")
