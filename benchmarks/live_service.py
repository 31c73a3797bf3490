"""A `qd serve` with its live channel, and a stock client of it."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import psutil  # type: ignore[import-untyped]
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.bench import Bench
from benchmarks.web import Server, started

ECHO = {"kind": "quarterdeck.echo", "args": {"a": 1}}
END = "job.completed"
KIB = 1024


@contextlib.asynccontextmanager
async def serving(bench: Bench, *options: str) -> AsyncIterator[Server]:
    """A `qd serve` on the bench's database."""
    command = ["quarterdeck", "serve", "benchmarks.live_deck:deck", "--bind", "127.0.0.1:0"]
    command += ["--database-url", bench.dsn, "--config", os.devnull, "--log-format", "json", *options]
    name = f"serve-{time.monotonic_ns()}.log"
    async with started(bench.directory / name, command) as process:
        yield await process.ready("/livez", 200)


@contextlib.asynccontextmanager
async def socket(server: Server) -> AsyncIterator[ClientConnection]:
    """A socket that was greeted."""
    url = f"ws://{server.target.host}:{server.target.port}/v1/live"
    async with connect(url, compression=None, proxy=None, max_size=None, ping_interval=None) as connection:
        await connection.recv()
        yield connection


async def frame(connection: ClientConnection) -> dict[str, Any]:
    """The next frame that is no ping."""
    while True:
        found: dict[str, Any] = json.loads(await connection.recv())
        if found["type"] != "ping":
            return found
        await connection.send('{"op":"pong"}')


async def ask(connection: ClientConnection, **request: Any) -> dict[str, Any]:
    """Sends a frame and takes the next one."""
    await connection.send(json.dumps(request))
    return await frame(connection)


def at(text: str) -> float:
    """A time of the service, in seconds."""
    return dt.datetime.fromisoformat(text).timestamp()


def rss(process: psutil.Process) -> int:
    """Bytes of memory that a process holds."""
    return int(process.memory_info().rss)
