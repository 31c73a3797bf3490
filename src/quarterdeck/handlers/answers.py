"""What an answer is worth: its verdict, its Retry-After, its body as JSON, text or Base64."""

from __future__ import annotations

import base64
import codecs
import datetime as dt
import zlib
from collections.abc import Collection
from email.message import Message
from email.utils import parsedate_to_datetime
from enum import Enum
from http import HTTPStatus
from typing import Any

import msgspec

from quarterdeck.domain.jsonvalue import check
from quarterdeck.handlers.outbound import MAX_BODY, Answer

MAX_RETRY_AFTER = 86_400.0
"""The longest wait, in seconds, that an answer may ask for."""
MAX_HEADERS = 100
MAX_HEADERS_SIZE = 32 * 1024
"""Characters of an answer's headers that are kept."""

_GZIP = b"\x1f\x8b"
"""How gzip begins (RFC 1952, section 2.3.1)."""
_ASK_AGAIN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
_CHARSETS = {
    *("utf-8", "ascii", "iso8859-1", "iso8859-2", "iso8859-15", "cp1250", "cp1251", "cp1252"),
    *("utf-16", "shift_jis", "euc_jp", "gb2312", "gbk", "gb18030", "big5", "euc_kr", "koi8-r"),
}
"""Of the codecs that Python has, those that decode text; some of the others compress, or call names up."""


class Verdict(Enum):
    """What a status makes of the call."""

    DONE = "done"
    LATER = "later"
    NEVER = "never"


def verdict(status: int, expect: Collection[int] | None) -> Verdict:
    """Whether the call is done, is to be tried again, or not (contract, section 7); `expect` wins over the rule."""
    if status in (range(200, 300) if expect is None else expect):
        return Verdict.DONE
    return Verdict.LATER if status >= 500 or status in _ASK_AGAIN else Verdict.NEVER


def in_words(status: int) -> str:
    """The status with its name, where it has one."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def retry_after(answer: Answer, now: dt.datetime) -> float:
    """Seconds that an answer asks to wait, at most a day; 0 where it asks for none (RFC 9110, section 10.2.3).

    A date is compared with the answer's own `Date`, so that the clocks need not agree.
    """
    text = (answer.header("retry-after") or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER)
    when = _date(text)
    if when is None:
        return 0.0
    since = _date(answer.header("date") or "") or now
    return min(max((when - since).total_seconds(), 0.0), MAX_RETRY_AFTER)


def _date(text: str) -> dt.datetime | None:
    try:
        when = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return when if when.tzinfo is not None else when.replace(tzinfo=dt.UTC)


def headers_of(answer: Answer) -> dict[str, str]:
    """The headers by name, those of one name joined by commas, as far as there is room for them."""
    kept: dict[str, str] = {}
    room = MAX_HEADERS_SIZE
    for name, value in answer.headers:
        room -= len(name) + len(value)
        if room < 0 or (name not in kept and len(kept) == MAX_HEADERS):
            break
        kept[name] = f"{kept[name]}, {value}" if name in kept else value
    return kept


def body_of(answer: Answer) -> dict[str, Any]:
    """The body: `json` where it says that it is JSON and holds nothing that a job could not, else `body`.

    With `body` goes `encoding: "base64"` where it is no text, and with both `truncated: true` where there was more.
    """
    data, truncated = _unpacked(answer)
    media, charset = _content_type(answer)
    if not truncated and (media == "application/json" or media.endswith("+json")):
        try:
            value = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError, ValueError):
            pass
        else:
            if not check(value):
                return {"json": value}
    kept: dict[str, Any]
    try:
        # Of a body that was cut, the last character may be there in part.
        text = codecs.getincrementaldecoder(charset)("strict").decode(data, final=not truncated)
        kept = {"body": text}
    except UnicodeDecodeError:
        kept = {"body": base64.b64encode(data).decode(), "encoding": "base64"}
    return {**kept, "truncated": True} if truncated else kept


def excerpt(answer: Answer, most: int = 500) -> str:
    """The beginning of the body, where it is text; empty else."""
    body = body_of(answer)
    if "json" in body:
        return msgspec.json.encode(body["json"]).decode()[:most]
    return "" if "encoding" in body else str(body["body"][:most])


def _unpacked(answer: Answer) -> tuple[bytes, bool]:
    """The body without gzip or deflate, which nobody asked for: at most MAX_BODY bytes, however much they stand for."""
    packing = (answer.header("content-encoding") or "").strip().lower()
    if packing not in ("gzip", "x-gzip", "deflate") or not answer.body:
        return answer.body, answer.truncated
    data, rest = b"", answer.body
    try:
        while True:
            unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: either format, told by its first bytes
            data += unpacker.decompress(rest, MAX_BODY + 1 - len(data))
            if len(data) > MAX_BODY or not unpacker.eof:
                return data[:MAX_BODY], True
            rest = unpacker.unused_data
            if not rest.startswith(_GZIP):  # what is no further part (RFC 1952, section 2.2) is padding
                return data, answer.truncated
    except zlib.error:
        return answer.body, answer.truncated


def _content_type(answer: Answer) -> tuple[str, str]:
    message = Message()
    message["Content-Type"] = answer.header("content-type") or "text/plain"
    charset = str(message.get_param("charset") or "utf-8")
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):
        name = "utf-8"
    return message.get_content_type(), name if name in _CHARSETS else "utf-8"
