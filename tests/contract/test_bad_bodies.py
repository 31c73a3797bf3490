"""What a submit refuses, how it says so, and that nothing of it is stored."""

import time

import msgspec
import pytest

from quarterdeck.web.body import LIMIT

GOOD = {"kind": "add", "args": {"left": 1, "right": 2}}
NUL = "\0"


def job(**fields):
    return msgspec.json.encode({**GOOD, **fields})


def echo(args):
    """A submit of the kind that takes everything, its arguments as JSON text."""
    return b'{"kind": "quarterdeck.echo", "args": ' + args + b"}"


def nested(levels):
    return b'{"a":' * (levels - 1) + b"{}" + b"}" * (levels - 1)


@pytest.fixture
async def stored(connection):
    async def count():
        return await connection.fetchval(
            "select (select count(*) from quarterdeck.job) + (select count(*) from quarterdeck.job_history)"
        )

    return count


NOT_STRICT_JSON = {
    "nothing": (b"", []),
    "white space": (b" \r\n", []),
    "no JSON": (b"kind=add", []),
    "half of it": (job()[:-5], []),
    "a trailing comma": (b'{"kind": "add",}', []),
    "single quotes": (b"{'kind': 'add'}", []),
    "a comment": (b'{"kind": "add"} // what', []),
    "two values": (b'{"kind": "add"}{}', []),
    "a control character": (b'{"kind": "a\x01dd"}', []),
    "a bare NUL": (b'{"kind": "a\x00dd"}', []),
    "a leading zero": (echo(b'{"a": 01}'), []),
    "NaN": (echo(b'{"a": NaN}'), ["/args/a"]),
    "Infinity": (echo(b'{"a": [1, Infinity]}'), ["/args/a/1"]),
    "minus Infinity": (echo(b'{"a": -Infinity}'), ["/args/a"]),
    "a key twice": (b'{"kind": "add", "args": {}, "kind": "add"}', ["/kind"]),
    "a nested key twice": (echo(b'{"list": [{"a": 1, "b": 2, "a": 1}]}'), ["/args/list/0/a"]),
    "a key twice, once escaped": (echo(b'{"a:": 1, "\\u0061\\u003a": 2}'), ["/args/a:"]),
    "bad UTF-8": (b'{"kind": "\xff"}', []),
    "overlong UTF-8": (b'{"kind": "\xc0\x80"}', []),
    "a surrogate in UTF-8": (b'{"kind": "\xed\xa0\x80"}', []),
    "UTF-16": (job().decode().encode("utf-16"), []),
    "a byte order mark": (b"\xef\xbb\xbf" + job(), []),
    "many brackets never closed": (b"[" * 100_000, []),
}


async def test_a_body_that_is_not_strict_json_is_a_400(client, stored, subtests):
    for name, (text, pointers) in NOT_STRICT_JSON.items():
        with subtests.test(name):
            answer = await client.call("POST", "/v1/jobs", text=text)
            answer.problem(400, "malformed-json")
            assert answer.pointers == pointers
    assert await stored() == 0


NOT_STORABLE = {
    "NUL in a value": (echo(b'{"a": ["x\\u0000"]}'), ["/args/a/0"]),
    "NUL in a key": (echo(b'{"a": {"\\u0000": 1}}'), ["/args/a"]),
    "NUL behind a backslash": (echo(b'{"a": "\\\\\\u0000"}'), ["/args/a"]),
    "NUL in the kind": (job(kind=f"add{NUL}"), ["/kind"]),
    "NUL in the queue": (job(queue=NUL), ["/queue"]),
    "NUL in a tag": (job(tags=["fine", f"a{NUL}"]), ["/tags/1"]),
    "NUL in the metadata": (job(metadata={"a": NUL}), ["/metadata/a"]),
    "a lone high surrogate": (echo(b'{"a": "\\ud800"}'), ["/args/a"]),
    "a lone low surrogate": (echo(b'{"a": "\\udc00"}'), ["/args/a"]),
    "surrogates the wrong way round": (echo(b'{"a": "\\udc00\\ud800"}'), ["/args/a"]),
    "a lone surrogate in a key": (echo(b'{"a": {"\\ud800": 1}}'), ["/args/a"]),
    "a lone surrogate as the last of all": (b'"\\ud800"', [""]),
    "a number beyond 64 bit": (echo(b'{"a": 18446744073709551616}'), ["/args/a"]),
    "a negative number beyond 64 bit": (echo(b'{"a": [-9223372036854775809]}'), ["/args/a/0"]),
    "a number of 5000 digits": (echo(b'{"a": ' + b"1" * 5000 + b"}"), ["/args/a"]),
    "a number beyond a double": (echo(b'{"a": 1e999}'), ["/args/a"]),
    "a negative number beyond a double": (echo(b'{"a": [0, -1e999]}'), ["/args/a/1"]),
    "33 levels of arguments": (echo(nested(33)), ["/args" + "/a" * 31]),
    "1000 levels": (echo(nested(1000)), []),
    "100000 levels": (b"[" * 100_000 + b"]" * 100_000, []),
}
BREAKING_A_RULE = {
    "an array": (b"[]", [""]),
    "a text": (b'"add"', [""]),
    "null": (b"null", [""]),
    "no kind": (b"{}", ["/kind"]),
    "a kind that is a number": (b'{"kind": 1}', ["/kind"]),
    "an illegal queue": (job(queue="-a"), ["/queue"]),
    "a queue of 129 characters": (job(queue="q" * 129), ["/queue"]),
    "an unknown field": (job(proirity=1), ["/proirity"]),
    "args that are no object": (job(args=[1]), ["/args"]),
    "an argument too few": (job(args={"left": 1}), ["/args/right"]),
    "an argument too many": (job(args={"left": 1, "right": 2, "middle": 3}), ["/args/middle"]),
    "an argument of another type": (job(args={"left": "1", "right": 2}), ["/args/left"]),
    "a priority that is too high": (job(priority=10), ["/priority"]),
    "a priority that is a text": (job(priority="5"), ["/priority"]),
    "delay with run_at": (job(delay=1, run_at="2030-01-01T00:00:00Z"), ["/delay"]),
    "ttl with expires_at": (job(ttl=1, expires_at="2030-01-01T00:00:00Z"), ["/ttl"]),
    "a duration that is none": (job(delay="soon"), ["/delay"]),
    "a negative duration": (job(ttl=-1), ["/ttl"]),
    "no time at all": (job(timeout=0), ["/timeout"]),
    "a moment without a zone": (job(run_at="2030-01-01T00:00:00"), ["/run_at"]),
    "a moment that is none": (job(run_at="tomorrow"), ["/run_at"]),
    "no attempts": (job(max_attempts=0), ["/max_attempts"]),
    "33 tags": (job(tags=["a"] * 33), ["/tags"]),
    "a tag of 129 characters": (job(tags=["a" * 129]), ["/tags/0"]),
    "metadata over 16 KiB": (job(metadata={"a": "b" * 16 * 1024}), ["/metadata"]),
    "an unknown way of retrying": (job(retry={"backoff": "never"}), ["/retry/backoff"]),
    "several at once": (job(priority=10, max_attempts=0), ["/priority", "/max_attempts"]),
}


async def test_a_body_that_cannot_be_stored_or_breaks_a_rule_is_a_422_that_points_at_it(client, stored, subtests):
    for name, (text, pointers) in {**NOT_STORABLE, **BREAKING_A_RULE}.items():
        with subtests.test(name):
            answer = await client.call("POST", "/v1/jobs", text=text)
            answer.problem(422, "invalid")
            assert answer.pointers == pointers
    assert await stored() == 0


@pytest.mark.parametrize("kind", ["nobody", "a b", "", "k" * 500_000])
async def test_a_kind_that_was_never_registered_is_a_422_of_its_own(client, stored, kind):
    answer = await client.submit(kind)
    answer.problem(422, "unknown-kind")
    assert answer.pointers == ["/kind"]
    assert len(answer.body) < 1000
    assert await stored() == 0


ALLOWED = {
    "an escaped NUL that is none": (b'{"a": "\\\\u0000"}', "\\u0000"),
    "an emoji in escapes": (b'{"a": "\\ud83d\\ude00"}', "\N{GRINNING FACE}"),
    "the largest number": (b'{"a": 18446744073709551615}', 2**64 - 1),
    "the least number": (b'{"a": -9223372036854775808}', -(2**63)),
    "a fraction of many digits": (b'{"a": 0.12345678901234567890123}', 0.12345678901234568),
    "many digits in a text": (b'{"a": "123456789012345678901234"}', "1" + "23456789012345678901234"),
    "equal keys in different objects": (b'{"a": [{"b": 1}, {"b": 1}]}', [{"b": 1}, {"b": 1}]),
    "colons and quotes in texts": (b'{"a": "\\":\\u003a:\\\\"}', '":::\\'),
}


async def test_what_only_looks_bad_is_taken_and_given_back_as_it_was(client, subtests):
    for name, (args, value) in ALLOWED.items():
        with subtests.test(name):
            answer = await client.call("POST", "/v1/jobs", text=echo(args), headers={"Prefer": "wait=10"})
            assert answer.status == 200
            assert (answer.json["args"], answer.json["result"]) == ({"a": value}, {"a": value})
    assert (await client.call("POST", "/v1/jobs", text=echo(nested(32)))).status == 202


WRONG_MEDIA = {
    "none": {"Content-Type": ""},
    "a form": {"Content-Type": "application/x-www-form-urlencoded"},
    "text": {"Content-Type": "text/plain"},
    "another JSON": {"Content-Type": "application/merge-patch+json"},
    "another charset": {"Content-Type": "application/json; charset=utf-16"},
    "compressed": {"Content-Encoding": "gzip"},
}


async def test_a_body_of_another_media_type_is_a_415(client, stored, subtests):
    for name, headers in WRONG_MEDIA.items():
        with subtests.test(name):
            (await client.call("POST", "/v1/jobs", text=job(), headers=headers)).problem(415, "unsupported-media-type")
    assert await stored() == 0


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "Application/JSON", "application/json; charset=utf-8", 'application/json;charset="UTF-8"'],
)
async def test_json_may_say_that_it_is_utf_8(client, media_type):
    assert (await client.call("POST", "/v1/jobs", text=job(), headers={"Content-Type": media_type})).status == 202


@pytest.mark.parametrize("query", ["?dry=1", "?dry_run=maybe", "?dry_run", "?dry_run=1&dry_run=1", "?dry_run=%ff"])
async def test_a_query_that_is_not_known_is_a_400(client, stored, query):
    (await client.call("POST", f"/v1/jobs{query}", text=job())).problem(400, "bad-query")
    assert await stored() == 0


async def test_a_body_over_a_mebibyte_is_a_413(client, stored):
    text = echo(b'{"a": "' + b"a" * LIMIT + b'"}')
    answer = await client.call("POST", "/v1/jobs", text=text)
    answer.problem(413, "body-too-large")
    assert await stored() == 0


async def test_a_body_of_exactly_a_mebibyte_is_taken(client):
    frame = len(echo(b'{"a": ""}'))
    answer = await client.call("POST", "/v1/jobs", text=echo(b'{"a": "' + b"a" * (LIMIT - frame) + b'"}'))
    assert answer.status == 202
    assert len(answer.json["args"]["a"]) == LIMIT - frame


HEAVY = {
    "numbers": b"1,",
    "objects": b'{"a":1},',
    "texts": b'"a",',
}
FLAWS = {
    "not JSON": (b",,", 400),
    "NaN": (b"NaN", 400),
    "a key twice": (b'{"a":1,"a":1}', 400),
    "bad UTF-8": (b'"\xff"', 400),
    "NUL": (b'"\\u0000"', 422),
    "a lone surrogate": (b'"\\ud800"', 422),
    "a number beyond 64 bit": (b"1" * 30, 422),
    "a number beyond a double": (b"1e999", 422),
    "levels": (b"[" * 50 + b"]" * 50, 422),
}


async def test_a_large_bad_body_costs_little(client, subtests):
    for filler, unit in HEAVY.items():
        for name, (flaw, status) in FLAWS.items():
            with subtests.test(f"{filler}, then {name}"):
                room = LIMIT - 100 - len(flaw)
                text = echo(b'{"a": [' + unit * (room // len(unit)) + flaw + b"]}")
                for _ in range(5):  # a busy machine may be slow once
                    began = time.process_time()
                    answer = await client.call("POST", "/v1/jobs", text=text)
                    took = time.process_time() - began
                    assert answer.status == status
                    # Fifty milliseconds are promised; asyncio's debug mode and the client take their part here.
                    if took < 0.1:
                        break
                assert took < 0.1
