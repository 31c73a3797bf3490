"""A client of the live channel that shares no code with the service: the `websockets` library, and JSON."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

SUBPROTOCOL = "quarterdeck.v1.json"
PATIENCE = 10.0
"""Seconds to wait for a frame."""

TERMINAL = {"job.completed", "job.cancelled", "job.discarded"}


class Peer:
    """One client. It keeps what came while it waited for something else."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames: list[dict[str, Any]] = []

    async def send(self, **frame: Any) -> None:
        """Send a frame."""
        await self.connection.send(json.dumps(frame))

    async def receive(self, within: float = PATIENCE) -> dict[str, Any]:
        """The next frame; pings of the service are answered and left out."""
        while True:
            async with asyncio.timeout(within):
                text = await self.connection.recv()
            assert isinstance(text, str)
            frame: dict[str, Any] = json.loads(text)
            if frame["type"] == "ping":
                await self.send(op="pong")
                continue
            self.frames.append(frame)
            return frame

    async def until(self, wanted: Callable[[dict[str, Any]], bool], within: float = PATIENCE) -> list[dict[str, Any]]:
        """All frames up to the first that is wanted."""
        found = []
        while True:
            found.append(await self.receive(within))
            if wanted(found[-1]):
                return found

    async def ask(self, **frame: Any) -> dict[str, Any]:
        """Send a frame and return the next one of the same `ref` or `sub`."""
        await self.send(**frame)
        name = "ref" if "ref" in frame else "sub"
        return (await self.until(lambda answer: answer.get(name) == frame[name]))[-1]

    async def events(self, sub: str, *, within: float = PATIENCE) -> list[dict[str, Any]]:
        """The events of a subscription up to a terminal one."""
        frames = await self.until(lambda frame: frame.get("sub") == sub and frame.get("event") in TERMINAL, within)
        return [frame for frame in frames if frame.get("sub") == sub and frame["type"] == "event"]

    async def closed(self, within: float = PATIENCE) -> int:
        """Wait until the service has closed the socket; return the code."""
        async with asyncio.timeout(within):
            try:
                while True:
                    self.frames.append(json.loads(await self.connection.recv()))
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else 1006


@asynccontextmanager
async def connected(url: str, *, greeted: bool = True, **options: Any) -> AsyncIterator[Peer]:
    """Connect to the service at an http URL; its `hello` is taken."""
    address = url.replace("http://", "ws://") + "/v1/live" + options.pop("query", "")
    options = {"compression": None, "subprotocols": [SUBPROTOCOL], "proxy": None, "max_size": None, **options}
    async with connect(address, **options) as connection:
        peer = Peer(connection)
        if greeted:
            hello = await peer.receive()
            assert hello["type"] == "hello", hello
        yield peer
