"""`python -m benchmarks.bad_bodies`: how long it takes to refuse the largest body, for every way to be bad."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Mapping
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


def _echo(before: bytes, unit: bytes, after: bytes) -> bytes:
    return _filled(b'{"kind":"quarterdeck.echo","args":{"v":[' + before, unit, after + b"]}}")


def bodies() -> Mapping[str, bytes]:
    """The ways to be bad, each with a body of about 1 MiB whose flaw comes as late as it can."""
    return {
        "no JSON": _filled(b"", b"x", b""),
        "white space": _filled(b"", b" ", b""),
        "cut off": _echo(b"", b"1,", b"1")[:-3],
        "brackets never closed": _filled(b"", b"[", b""),
        "nested too deep": _filled(b"", b"[", b"")[: LIMIT // 2] + b"]" * (LIMIT // 2),
        "nested 40 deep, often": _echo(b"", b"[" * 40 + b"]" * 40 + b",", b"1"),
        "NaN at the end": _echo(b"", b"1,", b"NaN"),
        "bad UTF-8 at the end": _echo(b'"', b"\xc3\xbc", b'\xff"'),
        "NUL at the end": _echo(b"", b'"a",', b'"\\u0000"'),
        "NULs everywhere": _echo(b"", b'"\\u0000",', b"1"),
        "a lone surrogate at the end": _echo(b"", b'"a",', b'"\\ud800"'),
        "lone surrogates everywhere": _echo(b"", b'"\\udc00",', b"1"),
        "a key twice at the end": _echo(b"", b'{"a":1},', b'{"a":1,"a":2}'),
        "one key over and over": _echo(b"{", b'"a":1,', b'"a":2}'),
        "beyond 64 bit at the end": _echo(b"", b"1,", b"99999999999999999999"),
        "beyond 64 bit everywhere": _echo(b"", b"99999999999999999999,", b"1"),
        "one number of a million digits": _echo(b"", b"9", b""),
        "a number beyond doubles": _echo(b"", b"1,", b"1e999"),
        "an unknown field at the end": _filled(b'{"kind":"quarterdeck.echo","args":{"v":[', b"1,", b'1]},"x":1}'),
        "many unknown fields": b'{"kind":"quarterdeck.echo"' + b"".join(b',"x%d":1' % n for n in range(90_000)) + b"}",
        "no object": _filled(b"[", b"1,", b"1]"),
        "args no object": _filled(b'{"kind":"quarterdeck.echo","args":[', b"1,", b"1]}"),
        "metadata over its limit": _filled(b'{"kind":"quarterdeck.echo","metadata":{"v":[', b"1,", b"1]}}"),
        "too many tags": _filled(b'{"kind":"quarterdeck.echo","tags":[', b'"a",', b'"a"]}'),
        "a tag too long": _filled(b'{"kind":"quarterdeck.echo","tags":["', b"a", b'"]}'),
        "a kind too long": _filled(b'{"kind":"', b"a", b'"}'),
        "args that do not fit": _filled(b'{"kind":"quarterdeck.sleep","args":{"seconds":[', b"1,", b"1]}}"),
        "many backslashes": _echo(b'"', b"\\\\", b'\\u0000"'),
        "many quotes": _echo(b'"', b'\\"', b'\\u0000"'),
        "too many delays": _filled(b'{"kind":"quarterdeck.echo","retry":{"backoff":[', b"1,", b"1]}}"),
        "a duration too long": _filled(b'{"kind":"quarterdeck.echo","delay":"', b"1", b's"}'),
    }


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
