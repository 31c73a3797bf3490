"""JSON as callers may send it: strict, and nothing that could not be stored.

The whole text is looked at only by code that runs at the speed of C. Most flaws are found in the text, before any value
is made of it, which takes by far the most time. Where there is one, a text of moderate size is walked once more for the
place, so that no bad body costs much.
"""

from __future__ import annotations

import gc
import json
import re
from array import array
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import msgspec

from quarterdeck.domain import jsonvalue
from quarterdeck.domain.errors import FieldError
from quarterdeck.web.problems import INVALID, MALFORMED_JSON, Refusal

MAX_DEPTH = jsonvalue.MAX_DEPTH + 1
"""Levels of nesting in a body: those that a value in it may have, and the body itself."""
MAX_WALK = 32 * 1024
"""Bytes of a bad text that is walked for the place of its flaw; of a longer one only the flaw is named."""

_LARGE = 64 * 1024
_BOM = b"\xef\xbb\xbf"
_RAW = msgspec.json.Decoder(msgspec.Raw).decode
_DECODE = msgspec.json.Decoder().decode
_ENCODE = msgspec.json.Encoder().encode
# msgspec takes an escape that stands close to the end of the text for one that is cut off.
_PADDING = b" " * 16
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = b"0" * 19  # the least number of digits that 64 bits may not hold
_LONG_WHOLE = re.compile(rb"(?<![0-9.eE+-])-?[0-9]{19,}+(?![.eE])")
_LEAST, _GREATEST = -(2**63), 2**64 - 1
_MOST_DIGITS = len(str(_GREATEST))
_READABLE = 25
_TOO_LARGE = 10**_READABLE
_NOT_NESTING = bytes(code for code in range(256) if code not in b'[]{}"')
_NOT_NUMBERS = bytes(code for code in range(256) if code not in b'0123456789+-.eE,:"')
_STEPS = bytes.maketrans(b"[]{}", b"\x01\xff\x01\xff")  # up, down: 1 and -1 in 8 bits
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_NO_NUMBER = re.compile(rb"-?(NaN|Infinity)")
_AT_BYTE = re.compile(r" \(byte (\d+)\)$")


def decode(text: bytes, max_depth: int = MAX_DEPTH) -> Any:
    """The value of a JSON text.

    Raises Refusal: 400 for what is not strict JSON (NaN, duplicate keys, bad UTF-8, a byte order mark), 422 for what is
    but cannot be stored: NUL, lone surrogates, numbers out of range, more than `max_depth` levels.
    """
    refusal = _malformation(text, max_depth) or _flaw(text, max_depth)
    if refusal is not None:
        raise refusal
    if len(text) < _LARGE or not gc.isenabled():
        value = _value(text)
    else:
        # JSON has no cycles, and looking for them while a large text is decoded can take most of the time. Right after,
        # it would take as long: so what is new is made old, by freezing and thawing, and seldom looked at again.
        gc.disable()
        try:
            value = _value(text)
        finally:
            gc.freeze()
            gc.unfreeze()
            gc.enable()
    if isinstance(value, Refusal):
        raise value
    return value


def _malformation(text: bytes, max_depth: int) -> Refusal | None:
    """What is wrong with a text that is not JSON; of duplicate keys nothing is known yet."""
    if not text.strip():
        return _malformed("The body is empty")
    if text.startswith(_BOM):
        return _malformed("The body begins with a byte order mark")
    try:
        _skim(text)
    except UnicodeDecodeError as error:
        return _malformed(f"The body is not UTF-8 (byte {error.start})")
    except RecursionError:
        closed = text.count(b"[") == text.count(b"]") and text.count(b"{") == text.count(b"}")
        return _too_deep(text, max_depth) if closed else _malformed("A bracket is not closed")
    except msgspec.DecodeError as error:
        return _undecodable(text, str(error))
    return None


def _skim(text: bytes) -> None:
    """Reads a text without making a value of it. Raises as decoding does, but not for numbers out of range."""
    if not text.isascii():
        text.decode()
    _RAW(text + _PADDING)


def _flaw(text: bytes, max_depth: int) -> Refusal | None:
    """What in a text that is JSON cannot be stored, as far as no value is needed to see it."""
    plain = _without_backslashes(text)
    if b"\\u0000" in plain:
        return _invalid(text, "A text contains a NUL character")
    if text.count(b"[") + text.count(b"{") > max_depth and _depth(plain) > max_depth:
        return _too_deep(text, max_depth)
    if _LONG_NUMBER in text.translate(_ZEROS) and _has_large_number(plain):
        return _invalid(text, "A number is beyond 64 bit")
    return None


def _value(text: bytes) -> Any:
    """The value, or a Refusal. It is returned, not raised: a traceback would keep the bad value in memory."""
    try:
        value = _DECODE(text + _PADDING)
    except msgspec.ValidationError:
        return _invalid(text, "A number is out of range")
    # A key that comes twice is decoded once: its colon is missing when the value is encoded again.
    colons = text.count(b":")
    if b"\\u003" in text:
        plain = _without_backslashes(text)
        colons += plain.count(b"\\u003a") + plain.count(b"\\u003A")
    return value if colons == _ENCODE(value).count(b":") else _duplicate(text)


def _without_backslashes(text: bytes) -> bytes:
    """The text without escaped backslashes, so that every backslash that is left begins an escape."""
    return text.replace(b"\\\\", b"") if b"\\\\" in text else text


def _outside(plain: bytes, without: bytes) -> bytes:
    """What stands outside the texts of a JSON text without escaped backslashes, less some characters."""
    kept = plain.replace(b'\\"', b"").translate(None, delete=without)
    # Two quotes side by side are a text of which nothing is left, or end one and begin the next: nothing is between.
    kept = kept.replace(b'""', b"")
    return b"".join(kept.split(b'"')[::2]) if b'"' in kept else kept


def _depth(plain: bytes) -> int:
    """The levels of nesting in a JSON text without escaped backslashes."""
    steps = _outside(plain, _NOT_NESTING).translate(_STEPS)
    # The innermost brackets, often most of them, can go at once: they are one level.
    outer = steps.replace(b"\x01\xff", b"")
    return max(accumulate(array("b", outer)), default=0) + (len(outer) < len(steps))


def _has_large_number(plain: bytes) -> bool:
    """Whether a whole number in a JSON text without escaped backslashes is beyond 64 bit; others are doubles."""
    found = _LONG_WHOLE.findall(_outside(plain, _NOT_NUMBERS))
    if not found or max(map(len, found)) > _MOST_DIGITS:
        return bool(found)
    numbers = list(map(int, found))
    return min(numbers) < _LEAST or max(numbers) > _GREATEST


def _undecodable(text: bytes, reason: str) -> Refusal:
    at = _AT_BYTE.search(reason)
    if at is None or int(at[1]) >= len(text):
        return _malformed("The body ends too early")
    # The second is what is said of one half of a pair where the other half should begin.
    if "surrogate" in reason or "end of hex escape" in reason:
        if _is_json_but_for_surrogates(text):
            return _invalid(text, "A text contains a lone surrogate")
        return _malformed("A text contains a lone surrogate, and the body is not JSON")
    place = int(at[1])
    for start in (place, place - 1):
        if start >= 0 and (found := _NO_NUMBER.match(text, start)):
            return _malformed(f"{found[1].decode()} is not JSON (byte {start})", _findings(text))
    return _malformed(reason.removeprefix("JSON is malformed: ").capitalize())


def _is_json_but_for_surrogates(text: bytes) -> bool:
    try:
        # A letter is good in a text, and bad wherever an escape is bad.
        _skim(_SURROGATE.sub(b"x", text.replace(b"\\\\", b"x")))
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _malformed(detail: str, errors: list[FieldError] | None = None) -> Refusal:
    return Refusal(MALFORMED_JSON, detail, errors=errors or [])


def _invalid(text: bytes, detail: str) -> Refusal:
    return Refusal(INVALID, detail, errors=_findings(text))


def _too_deep(text: bytes, max_depth: int) -> Refusal:
    return Refusal(INVALID, f"The body is nested deeper than {max_depth} levels", errors=_findings(text))


def _duplicate(text: bytes) -> Refusal:
    found = next(_duplicates(text), None) if len(text) <= MAX_WALK else None
    return _malformed("A key is given twice", [FieldError(found, "given twice")] if found else None)


def _duplicates(text: bytes) -> Iterator[str]:
    """Pointers to the keys that are given twice. Objects are read as tuples of pairs, arrays as lists."""
    waiting: list[tuple[Any, tuple[str | int, ...]]] = [(json.loads(text, object_pairs_hook=tuple), ())]
    while waiting:
        value, path = waiting.pop()
        if isinstance(value, tuple):
            seen = set()
            for key, item in value:
                if key in seen:
                    yield jsonvalue.pointer((*path, key))
                seen.add(key)
                waiting.append((item, (*path, key)))
        elif isinstance(value, list):
            waiting.extend((item, (*path, index)) for index, item in enumerate(value))


def _findings(text: bytes) -> list[FieldError]:
    """Where the flaws of a bad text are, if it is short enough to be walked."""
    if len(text) > MAX_WALK:
        return []
    try:
        value = json.loads(text, parse_int=_bounded)
    except (ValueError, RecursionError):
        return []
    # The path may lead through a key that UTF-8 cannot hold.
    return [
        FieldError(found.pointer.encode(errors="backslashreplace").decode(), found.detail)
        for found in jsonvalue.check(value)
    ]


def _bounded(digits: str) -> int:
    """A whole number, or one that is too large like it: Python itself refuses to read thousands of digits."""
    return int(digits) if len(digits) <= _READABLE else _TOO_LARGE
