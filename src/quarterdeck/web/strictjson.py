"""JSON as callers may send it: strict, and nothing that could not be stored.

The whole text is looked at only by code that runs at the speed of C: it is decoded, encoded again, and searched. Where
a flaw is found, a text of moderate size is walked once more for the place, so that no bad body costs much.
"""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Iterator
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
_DECODE = msgspec.json.Decoder().decode
_ENCODE = msgspec.json.Encoder().encode
# msgspec takes an escape that stands close to the end of the text for one that is cut off.
_PADDING = b" " * 16
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = b"0" * 19  # the least number of digits that 64 bits may not hold
_LEAST, _GREATEST = -(2**63), 2**64 - 1
_MANY_DIGITS = re.compile(rb"[0-9]{19,}")
_FITTING = b"9223372036854775807"
_READABLE = 25
_TOO_LARGE = 10**_READABLE
_NOT_BRACKETS = bytes(code for code in range(256) if code not in b"[]{}")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_NO_NUMBER = re.compile(rb"-?(NaN|Infinity)")
_AT_BYTE = re.compile(r" \(byte (\d+)\)$")


def decode(text: bytes, max_depth: int = MAX_DEPTH) -> Any:
    """The value of a JSON text.

    Raises Refusal: 400 for what is not strict JSON (NaN, duplicate keys, bad UTF-8, a byte order mark), 422 for what is
    but cannot be stored: NUL, lone surrogates, numbers out of range, more than `max_depth` levels.
    """
    if len(text) < _LARGE or not gc.isenabled():
        value = _decoded(text, max_depth)
    else:
        # JSON has no cycles, and looking for them while a large text is decoded can take most of the time.
        gc.disable()
        try:
            value = _decoded(text, max_depth)
        finally:
            gc.enable()
    if isinstance(value, Refusal):
        raise value
    return value


def _decoded(text: bytes, max_depth: int) -> Any:  # noqa: PLR0911 - one for each way to fail
    """The value, or a Refusal. It is returned, not raised: a traceback would keep the bad value in memory."""
    if not text.strip():
        return _malformed("The body is empty")
    if text.startswith(_BOM):
        return _malformed("The body begins with a byte order mark")
    try:
        value = _DECODE(text + _PADDING)
    except UnicodeDecodeError as error:
        return _malformed(f"The body is not UTF-8 (byte {_first_not_utf8(text, error)})")
    except RecursionError:
        closed = text.count(b"[") == text.count(b"]") and text.count(b"{") == text.count(b"}")
        return _too_deep(text, max_depth) if closed else _malformed("A bracket is not closed")
    except msgspec.ValidationError:
        return _invalid(text, "A number is out of range")
    except msgspec.DecodeError as error:
        return _undecodable(text, str(error))
    flaw = _flaw(text, value, max_depth)
    return value if flaw is None else flaw


def _flaw(text: bytes, value: Any, max_depth: int) -> Refusal | None:
    # Escaped backslashes are taken out, so that every backslash that is left begins an escape.
    plain = text.replace(b"\\\\", b"") if b"\\\\" in text else text
    # A key that comes twice is decoded once: its colon is missing when the value is encoded again.
    colons = text.count(b":")
    if b"\\u003" in plain:
        colons += plain.count(b"\\u003a") + plain.count(b"\\u003A")
    if colons != _ENCODE(value).count(b":"):
        return _duplicate(text)
    if b"\\u0000" in plain:
        return _invalid(text, "A text contains a NUL character")
    brackets = text.count(b"[") + text.count(b"{") > max_depth
    digits = _LONG_NUMBER in text.translate(_ZEROS)
    # What stands outside strings; each of them leaves a quote.
    outside = b'"'.join(plain.replace(b'\\"', b"").split(b'"')[::2]) if brackets or digits else b""
    if brackets and _is_deeper(outside, max_depth):
        return _too_deep(text, max_depth)
    if digits and any(_is_large(outside, found) for found in _MANY_DIGITS.finditer(outside)):
        return _invalid(text, "A number is beyond 64 bit")
    return None


def _is_deeper(outside: bytes, max_depth: int) -> bool:
    """Whether there are more levels: the innermost brackets are taken out as often as there may be levels."""
    brackets = outside.translate(None, delete=_NOT_BRACKETS)
    for _ in range(max_depth):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if not brackets:
            return False
    return True


def _is_large(outside: bytes, found: re.Match[bytes]) -> bool:
    """Whether many digits are a whole number beyond 64 bit; with a fraction or an exponent they are of a double."""
    digits = found[0]
    if len(digits) == len(_FITTING) and digits <= _FITTING:
        return False
    start, end = found.span()
    before = outside[max(start - 2, 0) : start]
    if outside[end : end + 1] in (b".", b"e", b"E") or before.endswith((b".", b"e", b"E", b"+", b"e-", b"E-")):
        return False
    sign = -1 if before.endswith(b"-") else 1
    return len(digits) > _READABLE or not _LEAST <= sign * int(digits) <= _GREATEST


def _undecodable(text: bytes, reason: str) -> Refusal:
    at = _AT_BYTE.search(reason)
    if at is None or int(at[1]) >= len(text):
        return _malformed("The body ends too early")
    place = int(at[1])
    for start in (place, place - 1):
        if start >= 0 and (found := _NO_NUMBER.match(text, start)):
            return _malformed(f"{found[1].decode()} is not JSON (byte {start})", _findings(text))
    if "surrogate" in reason and _is_json_but_for_surrogates(text):
        return _invalid(text, "A text contains a lone surrogate")
    return _malformed(reason.removeprefix("JSON is malformed: ").capitalize())


def _is_json_but_for_surrogates(text: bytes) -> bool:
    if len(text) > _LARGE:  # decoding it a second time would take too long; this is the first flaw, whatever follows
        return True
    try:
        _DECODE(_SURROGATE.sub(b"", text.replace(b"\\\\", b"")))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _first_not_utf8(text: bytes, error: UnicodeDecodeError) -> int:
    try:
        text.decode()
    except UnicodeDecodeError as of_all:  # the other one counts from the beginning of its string
        error = of_all
    return error.start


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
