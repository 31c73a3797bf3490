"""`python -m benchmarks.bad_bodies`: how long it takes to refuse the largest body, for every way to be bad."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import msgspec

from benchmarks.bench import opened
from quarterdeck.bootstrap import Runtime
from quarterdeck.config import Settings
from quarterdeck.telemetry import log
from quarterdeck.web.app import create_app
from quarterdeck.web.body import LIMIT

BAR_MS = 50.0
EXPECTED = (400, 422)
READY_WITHIN = 30.0


def _filled(before: bytes, unit: bytes, after: bytes) -> bytes:
    """A body of as near as can be the greatest size."""
    return before + unit * ((LIMIT - len(before) - len(after)) // len(unit)) + after


def _numbered(before: bytes, unit: bytes, after: bytes) -> bytes:
    """The same with units that differ: a `%d` in them is their number, and commas are between them."""
    count = (LIMIT - len(before) - len(after)) // (len(unit) - len("%d") + len("123456,"))
    return before + b",".join(unit % number for number in range(count)) + after


def _echo(before: bytes, unit: bytes, after: bytes) -> bytes:
    return _filled(b'{"kind":"quarterdeck.echo","args":{"v":[' + before, unit, after + b"]}}")


def _field(name: bytes, value: bytes) -> bytes:
    return b'{"kind":"quarterdeck.echo","' + name + b'":' + value


def bodies() -> Mapping[str, bytes]:
    """The ways to be bad, each with a body of about 1 MiB whose flaw comes as late as it can."""
    return {**_not_json(), **_not_storable(), **_not_fitting(), **_breaking_a_rule(), **dict(_mixed())}


def _not_json() -> Mapping[str, bytes]:
    return {
        "no JSON": _filled(b"", b"x", b""),
        "white space": _filled(b"", b" ", b""),
        "cut off": _echo(b"", b"1,", b"1")[:-3],
        "cut off in the middle of objects": _filled(b"", b'{"a":', b""),
        "brackets never closed": _filled(b"", b"[", b""),
        "NaN at the end": _echo(b"", b"1,", b"NaN"),
        "bad UTF-8 at the end": _echo(b'"', b"\xc3\xbc", b'\xff"'),
        "a bad escape at the end": _echo(b'"', b"\\n", b'\\x"'),
        "a key twice at the end": _echo(b"", b'{"a":1},', b'{"a":1,"a":2}'),
        "one key over and over": _echo(b"{", b'"a":1,', b'"a":2}'),
        "one escaped key over and over": _echo(b"{", b'"\\u003a":1,', b'"a":2}'),
        "a key twice among many": _numbered(_field(b"args", b'{"a":1,'), b'"%d":1', b',"a":1}}'),
    }


def _not_storable() -> Mapping[str, bytes]:
    return {
        "nested too deep": _filled(b"", b"[", b"")[: LIMIT // 2] + b"]" * (LIMIT // 2),
        "objects nested too deep": b'{"a":' * (LIMIT // 6) + b"1" + b"}" * (LIMIT // 6),
        "nested 40 deep, often": _echo(b"", b"[" * 40 + b"]" * 40 + b",", b"1"),
        "objects nested 40 deep, often": _echo(b"", b'{"a":' * 40 + b"1" + b"}" * 40 + b",", b"1"),
        "nested 900 deep, often": _echo(b"", b"[" * 900 + b"]" * 900 + b",", b"1"),
        "nested 40 deep in stairs, often": _echo(b"", b"[[]," * 40 + b"1" + b"]" * 40 + b",", b"1"),
        "nested 40 deep, among brackets in texts": _echo(b"", b'"[",', b"[" * 40 + b"]" * 40),
        "NUL at the end": _echo(b"", b'"a",', b'"\\u0000"'),
        "NULs everywhere": _echo(b"", b'"\\u0000",', b"1"),
        "a lone surrogate at the end": _echo(b"", b'"a",', b'"\\ud800"'),
        "lone surrogates everywhere": _echo(b"", b'"\\udc00",', b"1"),
        "beyond 64 bit at the end": _echo(b"", b"1,", b"99999999999999999999"),
        "beyond 64 bit everywhere": _echo(b"", b"99999999999999999999,", b"1"),
        "beyond 64 bit among the greatest": _echo(b"", b"18446744073709551615,", b"99999999999999999999"),
        "beyond 64 bit among the least": _echo(b"", b"-9223372036854775808,", b"99999999999999999999"),
        "beyond 64 bit among 18 digits": _echo(b"", b"999999999999999999,", b"99999999999999999999"),
        "beyond 64 bit among long fractions": _echo(b"", b"1.23456789012345678901e1,", b"99999999999999999999"),
        "beyond 64 bit among digits in texts": _echo(b"", b'"1234567890123456789",', b"99999999999999999999"),
        "one number of a million digits": _echo(b"", b"9", b""),
        "a number beyond doubles": _echo(b"", b"1,", b"1e999"),
        "many backslashes": _echo(b'"', b"\\\\", b'\\u0000"'),
        "many quotes": _echo(b'"', b'\\"', b'\\u0000"'),
    }


def _not_fitting() -> Mapping[str, bytes]:
    return {
        "no object": _filled(b"[", b"1,", b"1]"),
        "an unknown field at the end": _filled(_field(b"args", b'{"v":['), b"1,", b'1]},"x":1}'),
        "an unknown field with a long name": _filled(b'{"kind":"quarterdeck.echo","', b"~", b'":1}'),
        "an unknown field that holds all": _filled(_field(b"x", b'{"a":['), b'{"a":[1]},', b"1]}}"),
        "many unknown fields": _numbered(b'{"kind":"quarterdeck.echo",', b'"x%d":1', b"}"),
        "args no object": _filled(_field(b"args", b"["), b"1,", b"1]}"),
        "args that do not fit": _filled(b'{"kind":"quarterdeck.sleep","args":{"seconds":[', b"1,", b"1]}}"),
        "args that nobody knows": _numbered(b'{"kind":"quarterdeck.sleep","args":{', b'"x%d":1', b"}}"),
        "tags that are objects": _filled(_field(b"tags", b"["), b'{"a":1},', b'"a"]}'),
        "a tag that is none at the end": _filled(_field(b"tags", b"["), b'"a",', b"1]}"),
        "delays that are none at the end": _filled(_field(b"retry", b'{"backoff":['), b"1,", b"{}]}}"),
        "an unknown way of retrying": _filled(_field(b"retry", b'{"backoff":"'), b"a", b'"}}'),
        "a moment that is none": _filled(_field(b"run_at", b'"'), b"2", b'"}'),
        "a priority that is no number": _filled(_field(b"priority", b"["), b"1,", b"1]}"),
        "a priority of many digits": _filled(_field(b"priority", b"1."), b"1", b"}"),
        "an idempotency key in the body": _filled(_field(b"idempotency_key", b'"'), b"a", b'"}'),
    }


def _breaking_a_rule() -> Mapping[str, bytes]:
    return {
        "a kind too long": _filled(b'{"kind":"', b"a", b'"}'),
        "a queue too long": _filled(_field(b"queue", b'"'), b"a", b'"}'),
        "metadata over its limit": _filled(_field(b"metadata", b'{"v":['), b"1,", b"1]}}"),
        "metadata of many keys": _numbered(_field(b"metadata", b"{"), b'"%d":1', b"}}"),
        "metadata nested 30 deep, often": _filled(
            _field(b"metadata", b'{"v":['), b"[" * 30 + b"]" * 30 + b",", b"1]}}"
        ),
        "too many tags": _filled(_field(b"tags", b"["), b'"a",', b'"a"]}'),
        "a tag too long": _filled(_field(b"tags", b'["'), b"a", b'"]}'),
        "tags too long": _field(b"tags", b"[" + b",".join([b'"' + b"a" * (LIMIT // 33) + b'"'] * 32) + b"]}"),
        "too many delays": _filled(_field(b"retry", b'{"backoff":['), b"1,", b"1]}}"),
        "a thousand delays that are none": _field(
            b"retry", b'{"backoff":[' + b",".join([b'"' + b"a" * 1000 + b'"'] * 1000) + b"]}}"
        ),
        "a duration too long": _filled(_field(b"delay", b'"'), b"1", b's"}'),
        "a webhook": _filled(_field(b"webhook", b"["), b'{"a":1},', b"1]}"),
        "unique by too much": _filled(_field(b"unique", b'{"by":['), b'"a",', b'"a"]}}'),
        "unique by a long name": _filled(_field(b"unique", b'{"by":["'), b"a", b'"]}}'),
        "a unique key of braces": _filled(_field(b"unique", b'{"key":"'), b"{{", b'"}}'),
        "a unique key of nothing": _filled(_field(b"args", b'{"":""},"unique":{"key":"'), b"{}", b'"}}'),
        "a unique key of much, often": _numbered(
            _field(b"unique", b'{"key":"' + b"{v}" * 150 + b'"},"args":{"v":{'), b'"%d":1', b"}}}"
        ),
        "args that do not fit, to be unique": _numbered(
            b'{"kind":"quarterdeck.sleep","unique":true,"args":{"seconds":{', b'"%d":1', b"}}}"
        ),
    }


_FILLERS = {
    "numbers": b"1,",
    "doubles": b"1.5,",
    "texts": b'"a",',
    "empty texts": b'"",',
    "escapes": b'"\\u00fc",',
    "objects": b'{"a":1},',
    "empty objects": b"{},",
    "empty arrays": b"[],",
    "pairs": b"[1,2],",
    "arrays 30 deep": b"[" * 30 + b"]" * 30 + b",",
    "objects 30 deep": b'{"a":' * 30 + b"1" + b"}" * 30 + b",",
    "all sorts": b'{"a":[1,"b",1.5,null,{}]},',
}
_FLAWS = {
    "a key twice": b'1],"v":1}}',
    "bad UTF-8": b'"\xff"]}}',
    "a comma too many": b"1,]}}",
    "NUL": b'"\\u0000"]}}',
    "a lone surrogate": b'"\\ud800"]}}',
    "beyond 64 bit": b"99999999999999999999]}}",
    "beyond doubles": b"1e999]}}",
    "too deep": b"[" * 40 + b"]" * 40 + b"]}}",
    "an unknown field": b'1]},"x":1}',
    "a priority too high": b'1]},"priority":10}',
    "no such argument": b'1]},"unique":{"by":["x"]}}',
}


def _mixed() -> Iterator[tuple[str, bytes]]:
    """Every flaw behind everything that takes time."""
    for filler, unit in _FILLERS.items():
        for flaw, after in _FLAWS.items():
            yield f"{filler}, then {flaw}", _filled(_field(b"args", b'{"v":['), unit, after)
        misfit = b'{"kind":"quarterdeck.sleep","args":{"seconds":['
        yield f"{filler}, which do not fit", _filled(misfit, unit, b"1]}}")


class Figure(msgspec.Struct, frozen=True):
    """One way to be bad: the status it got, and milliseconds of each request."""

    name: str
    status: int
    took: list[float]


async def measure(dsn: str, repeats: int) -> list[Figure]:
    """Sends each body so many times, through everything but the server's own parsing."""
    app = create_app(Runtime(Settings(database_url=dsn, role="web")))
    figures = []
    async with app.test_app() as tested:
        client = tested.test_client()
        headers = {"Content-Type": "application/json"}
        async with asyncio.timeout(READY_WITHIN):
            while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - a probe is asked, as elsewhere
                await asyncio.sleep(0.05)
        for name, body in bodies().items():
            assert len(body) <= LIMIT, f"{name}: {len(body)} bytes"
            took, status = [], 0
            for _ in range(repeats):
                gc.collect()
                began = time.perf_counter()
                answer = await client.post("/v1/jobs", data=body, headers=headers)
                took.append((time.perf_counter() - began) * 1000)
                status = answer.status_code
            figures.append(Figure(name, status, took))
    return figures


@click.command()
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--dir", "parent", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where the database is made."
)
def main(repeats: int, parent: Path | None) -> None:
    """Print the least, the median and the most milliseconds that each bad body took. Exits 1 for a wrong status."""
    log.configure("error", "console")
    figures = asyncio.run(_main(repeats, parent))
    for figure in figures:
        took = sorted(figure.took)
        middle = took[len(took) // 2]
        over = "  over the bar" if middle > BAR_MS else ""
        print(f"{figure.status}  {took[0]:7.1f} {middle:7.1f} {took[-1]:7.1f} ms  {figure.name}{over}")
    wrong = [figure.name for figure in figures if figure.status not in EXPECTED]
    if wrong:
        raise SystemExit(f"not refused as a 400 or a 422: {', '.join(wrong)}")


async def _main(repeats: int, parent: Path | None) -> list[Figure]:
    async with opened(parent) as bench:
        return await measure(bench.dsn, repeats)


if __name__ == "__main__":
    main()
