"""`python -m benchmarks.callers`: HTTP clients that cost little, in a process of their own.

Reads a Plan from standard input and writes the Findings to standard output. Each connection is kept, and has one
request under way; what comes back is taken apart no more than is needed to know that it is complete and has the status.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import cast

import msgspec

SLICES = 6
"""Stretches into which the requests to each target are split, so that targets take turns."""

_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)

LOOP: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
with contextlib.suppress(ImportError):  # not for every platform
    import uvloop

    LOOP = uvloop.new_event_loop


class Target(msgspec.Struct, frozen=True):
    """Where to POST, and the status of every answer."""

    host: str
    port: int
    path: str
    status: int


class Plan(msgspec.Struct, frozen=True):
    """`requests` with the same body to each of the targets, on `connections` to each; after `seconds` it has failed."""

    targets: list[Target]
    body: str
    requests: int
    connections: int
    seconds: float


class Finding(msgspec.Struct):
    """What was found of one target: seconds in all, and of each request until its answer was complete."""

    seconds: float = 0.0
    latencies: list[float] = []


class Caller(asyncio.Protocol):
    """A connection."""

    def __init__(self, request: bytes, status: int, done: Callable[[float | Exception], None]) -> None:
        """`done` is called with the seconds that a request took, or with what went wrong."""
        self._request = request
        self._start = b"HTTP/1.1 %d " % status
        self._done = done
        self._answer = b""
        self._size = 0
        self._sent = 0.0
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's own is none by its class

    def send(self) -> None:
        """Sends the request; the one before has been answered."""
        assert self._transport is not None
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Some of an answer."""
        self._answer += data
        if not self._size:
            end = self._answer.find(_END)
            if end < 0:
                return
            length = _LENGTH.search(self._answer, 0, end + 2)
            if not self._answer.startswith(self._start) or length is None:
                self._done(ValueError(f"not the answer that was expected: {self._answer[:500]!r}"))
                return
            self._size = end + len(_END) + int(length[1])
        if len(self._answer) >= self._size:
            self._answer, self._size = b"", 0
            self._done(time.perf_counter() - self._sent)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._done(exc or ConnectionError("the server closed a connection"))

    def close(self) -> None:
        """Ends the connection; nobody hears of that."""
        self._done = lambda _: None
        if self._transport is not None:
            self._transport.close()


class Crowd:
    """The connections to one target."""

    def __init__(self, target: Target, body: bytes) -> None:
        self.finding = Finding()
        self._target = target
        head = (
            f"POST {target.path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\nAccept: */*\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._request = head.encode() + body
        self._callers: list[Caller] = []
        self._to_send = self._to_come = 0
        self._all_came: asyncio.Future[None] | None = None

    async def connect(self, connections: int) -> None:
        """Opens the connections. Raises OSError."""
        loop = asyncio.get_running_loop()
        for index in range(connections):
            self._callers.append(Caller(self._request, self._target.status, partial(self._came, index)))
            await loop.create_connection(
                partial(self._callers.__getitem__, index), self._target.host, self._target.port
            )

    async def run(self, requests: int) -> None:
        """Sends so many requests and waits for all answers. Raises ValueError for another one, ConnectionError."""
        self._all_came = asyncio.get_running_loop().create_future()
        self._to_send = self._to_come = requests
        gc.collect()
        begun = time.perf_counter()
        for caller in self._callers[:requests]:
            self._to_send -= 1
            caller.send()
        await self._all_came
        self.finding.seconds += time.perf_counter() - begun

    def close(self) -> None:
        """Closes the connections."""
        for caller in self._callers:
            caller.close()

    def _came(self, index: int, took: float | Exception) -> None:
        assert self._all_came is not None, took
        if self._all_came.done():
            return
        if isinstance(took, Exception):
            self._all_came.set_exception(took)
            return
        self.finding.latencies.append(took)
        self._to_come -= 1
        if self._to_send:
            self._to_send -= 1
            self._callers[index].send()
        elif not self._to_come:
            self._all_came.set_result(None)


async def call(plan: Plan) -> list[Finding]:
    """Carries the plan out: the targets take turns, and who begins changes. Raises TimeoutError, and see Crowd.run."""
    crowds = [Crowd(target, plan.body.encode()) for target in plan.targets]
    try:
        async with asyncio.timeout(plan.seconds):
            for crowd in crowds:
                await crowd.connect(min(plan.connections, plan.requests))
            for number, requests in enumerate(shares(plan.requests, SLICES)):
                for crowd in crowds if number % 2 == 0 else reversed(crowds):
                    await crowd.run(requests)
    finally:
        for crowd in crowds:
            crowd.close()
    return [crowd.finding for crowd in crowds]


def shares(whole: int, parts: int) -> Sequence[int]:
    """`whole` in up to `parts` parts that are as equal as can be."""
    ends = [whole * part // parts for part in range(parts + 1)]
    return [end - start for start, end in pairwise(ends) if end > start]


def main() -> None:
    """Does what the module says."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    with asyncio.Runner(loop_factory=LOOP) as runner:
        findings = runner.run(call(plan))
    sys.stdout.buffer.write(msgspec.json.encode(findings))


if __name__ == "__main__":
    main()
