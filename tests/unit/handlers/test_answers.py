import datetime as dt
import gzip
import json
import zlib

import pytest

from quarterdeck.handlers.answers import (
    MAX_HEADERS,
    MAX_HEADERS_SIZE,
    MAX_RETRY_AFTER,
    Verdict,
    body_of,
    excerpt,
    headers_of,
    in_words,
    retry_after,
    verdict,
)
from quarterdeck.handlers.outbound import MAX_BODY, Answer

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
BOMB = gzip.compress(bytes(50_000_000))
"""49 KB."""


def answer(body=b"", *, status=200, truncated=False, **headers):
    return Answer(status, [(name.replace("_", "-"), value) for name, value in headers.items()], body, truncated)


@pytest.mark.parametrize(
    ("status", "expect", "expected"),
    [
        (200, None, Verdict.DONE),
        (204, None, Verdict.DONE),
        (299, None, Verdict.DONE),
        (301, None, Verdict.NEVER),
        (304, None, Verdict.NEVER),
        (400, None, Verdict.NEVER),
        (404, None, Verdict.NEVER),
        (408, None, Verdict.LATER),
        (410, None, Verdict.NEVER),
        (425, None, Verdict.NEVER),
        (429, None, Verdict.LATER),
        (489, None, Verdict.NEVER),
        (500, None, Verdict.LATER),
        (503, None, Verdict.LATER),
        (599, None, Verdict.LATER),
        (999, None, Verdict.LATER),  # no status of HTTP: as 5xx (RFC 9110, section 15)
        (404, [200, 404], Verdict.DONE),
        (302, [302], Verdict.DONE),
        (489, [489], Verdict.DONE),
        (503, [503], Verdict.DONE),
        (200, [201], Verdict.NEVER),
        (500, [201], Verdict.LATER),
    ],
)
def test_a_status_says_whether_the_call_is_done_or_tried_again(status, expect, expected):
    assert verdict(status, expect) is expected


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry_after": "7"}, 7),
        ({"retry_after": " 120 "}, 120),
        ({"retry_after": "0"}, 0),
        ({"retry_after": "9" * 40}, MAX_RETRY_AFTER),
        ({"retry_after": "-5"}, 0),
        ({"retry_after": "1.5"}, 0),
        ({"retry_after": "٣"}, 0),
        ({"retry_after": "soon"}, 0),
        ({"retry_after": "Sat, 21 Nov 2026 12:00:30 GMT"}, 30),
        ({"retry_after": "Sat, 21 Nov 2026 11:00:00 GMT"}, 0),
        ({"retry_after": "Sat, 21 Nov 2099 11:00:00 GMT"}, MAX_RETRY_AFTER),
        ({"retry_after": "Sat, 21 Nov 2026 12:00:30 -0000"}, 30),
        ({"retry_after": "Sat, 99 Nov 2026 12:00:30 GMT"}, 0),
        # A server whose clock is an hour ahead.
        ({"retry_after": "Sat, 21 Nov 2026 13:00:30 GMT", "date": "Sat, 21 Nov 2026 13:00:00 GMT"}, 30),
        ({"retry_after": "Sat, 21 Nov 2026 12:00:30 GMT", "date": "nonsense"}, 30),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_at_most_a_day(headers, seconds):
    assert retry_after(answer(**headers), NOW) == seconds


def test_headers_of_one_name_are_joined_and_many_are_cut():
    twice = Answer(200, [("a", "1"), ("b", "2"), ("a", "3")], b"", truncated=False)
    assert headers_of(twice) == {"a": "1, 3", "b": "2"}
    many = Answer(200, [(f"x-{number}", "v") for number in range(500)], b"", truncated=False)
    assert len(headers_of(many)) == MAX_HEADERS
    long = Answer(200, [(f"x-{number}", "v" * 9000) for number in range(9)], b"", truncated=False)
    assert 0 < len(json.dumps(headers_of(long))) < MAX_HEADERS_SIZE + 1000


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b'{"a": [1]}', "application/json", {"json": {"a": [1]}}),
        (b'{"a": 1}', "application/problem+json; charset=utf-8", {"json": {"a": 1}}),
        (b"null", "application/json", {"json": None}),
        (b'{"a": 1}', "text/plain", {"body": '{"a": 1}'}),
        (b"{nonsense", "application/json", {"body": "{nonsense"}),
        (b"[NaN]", "application/json", {"body": "[NaN]"}),
        (b'["\\u0000"]', "application/json", {"body": '["\\u0000"]'}),
        (b"[" * 100 + b"]" * 100, "application/json", {"body": "[" * 100 + "]" * 100}),
        (b"[" * 20000, "application/json", {"body": "[" * 20000}),
        (b"", "application/json", {"body": ""}),
        ("é".encode(), "text/html", {"body": "é"}),
        ("é".encode("latin-1"), "text/html; charset=ISO-8859-1", {"body": "é"}),
        ("é".encode("latin-1"), "text/html", {"body": "6Q==", "encoding": "base64"}),
        (b"\x89PNG\xff", "image/png", {"body": "iVBOR/8=", "encoding": "base64"}),
        (b"plain", "text/plain; charset=no-such", {"body": "plain"}),
        (b"plain", "text/plain; charset=rot13", {"body": "plain"}),
        (b"plain", "nonsense", {"body": "plain"}),
    ],
)
def test_a_body_is_json_or_text_or_else_base64(body, content_type, expected):
    assert body_of(answer(body, content_type=content_type)) == expected


def test_a_body_that_was_cut_is_text_up_to_its_last_whole_character():
    cut = answer("aé".encode()[:2], truncated=True, content_type="text/plain")
    assert body_of(cut) == {"body": "a", "truncated": True}
    assert body_of(answer(b'{"a":1}', truncated=True, content_type="application/json")) == {
        "body": '{"a":1}',
        "truncated": True,
    }


PACKED = {
    "gzip": ("gzip", gzip.compress(b"hello")),
    "x-gzip": ("x-gzip", gzip.compress(b"hello")),
    "deflate": ("deflate", zlib.compress(b"hello")),
    "upper case": ("GZIP", gzip.compress(b"hello")),
    "in parts": ("gzip", gzip.compress(b"hel") + gzip.compress(b"lo") + gzip.compress(b"")),
    "with padding": ("gzip", gzip.compress(b"hello") + bytes(10)),
}


@pytest.mark.parametrize("name", PACKED)  # not by the bytes themselves: gzip writes the time of day into them
def test_a_body_that_was_packed_unasked_is_unpacked(name):
    packing, packed = PACKED[name]
    assert body_of(answer(packed, content_encoding=packing)) == {"body": "hello"}


def test_a_bomb_is_unpacked_no_further_than_anything_is_kept():
    kept = body_of(answer(BOMB, content_encoding="gzip"))
    assert kept == {"body": "\0" * MAX_BODY, "truncated": True}


def test_of_what_was_cut_or_is_too_long_in_its_last_part_the_beginning_is_kept():
    parts = [gzip.compress(bytes([letter]) * (MAX_BODY // 2)) for letter in b"abc"]
    assert body_of(answer(b"".join(parts[:2]), content_encoding="gzip")).keys() == {"body"}
    for body, truncated in ((b"".join(parts), False), (b"".join(parts[:2]), True), (b"".join(parts[:2])[:-20], False)):
        kept = body_of(answer(body, truncated=truncated, content_encoding="gzip"))
        assert kept["truncated"]
        assert kept["body"].startswith("a" * (MAX_BODY // 2) + "b")
        assert len(kept["body"]) <= MAX_BODY


@pytest.mark.parametrize("packing", ["gzip, gzip", "br", "zstd", "gzip"])
def test_what_cannot_be_unpacked_is_kept_as_it_came(packing):
    assert body_of(answer(b"\xffno such thing", content_encoding=packing))["encoding"] == "base64"


def test_an_excerpt_is_the_beginning_of_what_can_be_read():
    assert excerpt(answer(b"x" * 1000)) == "x" * 500
    assert excerpt(answer(b'{"why": "so"}', content_type="application/json")) == '{"why":"so"}'
    assert excerpt(answer(b"\xff\xfe")) == ""


@pytest.mark.parametrize(("status", "words"), [(404, "404 Not Found"), (489, "489"), (299, "299")])
def test_a_status_has_a_name_where_there_is_one(status, words):
    assert in_words(status) == words
