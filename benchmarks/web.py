"""HTTP: a submit to `qd serve --role web` beside a bare Quart route, each server and the clients in processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
import psutil  # type: ignore[import-untyped]

from benchmarks import bare_echo
from benchmarks.bench import Bench
from benchmarks.callers import Finding, Plan, Target
from benchmarks.measure import Sample

CONNECTIONS = 100
WARM_UP = 300
START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0
LOAD_TIMEOUT = 50.0
BODY = (
    '{"kind":"quarterdeck.echo","args":{"customer":4711,"path":"reports/2031/summary.pdf","pages":[1,2,3],'
    '"notify":true,"note":"the quick brown fox jumps over the lazy dog"}}'
)
"""The same for both: 169 bytes."""

_ROOT = Path(__file__).parents[1]


class Server(NamedTuple):
    """A server that answers."""

    process: psutil.Process
    target: Target

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


class Starting(NamedTuple):
    """A server that may not answer yet."""

    process: asyncio.subprocess.Process
    log: Path

    async def ready(self, path: str, status: int) -> Server:
        """The server, once it says where it listens; `path` is to be asked for, and to answer with `status`.

        Raises RuntimeError where it ends instead.
        """
        async with asyncio.timeout(START_TIMEOUT):
            while (url := self._url()) is None:
                if self.process.returncode is not None:
                    raise RuntimeError(f"a server ended: {self.log.read_text(errors='replace')[-2000:]}")
                await asyncio.sleep(0.02)
        address = urlsplit(url)
        assert address.hostname is not None
        assert address.port is not None
        return Server(psutil.Process(self.process.pid), Target(address.hostname, address.port, path, status))

    def _url(self) -> str | None:
        for line in self.log.read_bytes().splitlines():
            if b'"service.ready"' in line:
                with contextlib.suppress(msgspec.DecodeError):  # not all of it yet
                    return msgspec.json.decode(line, type=dict[str, str | None])["url"]
        return None


async def submit(bench: Bench, jobs: int) -> list[Sample]:
    """Both servers run while the clients take turns with them, so that both meet the same weather."""
    service = ["quarterdeck", "serve", "--role", "web", "--bind", "127.0.0.1:0", "--database-url", bench.dsn]
    service += ["--config", os.devnull, "--log-format", "json"]
    echo = started(bench.directory / "echo.log", ["benchmarks.bare_echo"])
    submits = started(bench.directory / "serve.log", service)
    async with echo as one, submits as two:
        servers = [await one.ready(bare_echo.PATH, 200), await two.ready("/v1/jobs", 202)]
        warm_up = min(WARM_UP, jobs)
        await _called(servers, warm_up)
        before = [server.cpu() for server in servers]
        findings = await _called(servers, jobs)
        cpu = [server.cpu() - was for server, was in zip(servers, before, strict=True)]
    stored = await bench.one.fetchval("select count(*) from quarterdeck.job where state = 'available'")
    assert stored == warm_up + jobs, f"{stored} of {warm_up + jobs} jobs stored"
    return [
        Sample(name, jobs, finding.seconds, used, {"request": finding.latencies})
        for name, finding, used in zip(("http/echo", "http/submit"), findings, cpu, strict=True)
    ]


@contextlib.asynccontextmanager
async def started(log: Path, module: list[str]) -> AsyncIterator[Starting]:
    """A server that writes what it logs, the requests included, to the file `log`."""
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *module),
            cwd=_ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("QUARTERDECK_")},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        yield Starting(process, log)
    finally:
        await _end(process)


async def _called(servers: list[Server], requests: int) -> list[Finding]:
    plan = Plan([server.target for server in servers], BODY, requests, CONNECTIONS, LOAD_TIMEOUT)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.callers"),
        cwd=_ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        found, _ = await process.communicate(msgspec.json.encode(plan))
    finally:
        await _end(process)
    assert process.returncode == 0, "the clients failed"
    return msgspec.json.decode(found, type=list[Finding])


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
