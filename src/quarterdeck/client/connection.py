"""Connection: one WebSocket of the live channel, while it lasts."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from quarterdeck.client.errors import (
    Forbidden,
    QuarterdeckClientError,
    Unauthenticated,
    UnexpectedAnswer,
    Unreachable,
    error_of,
)

SUBPROTOCOL = Subprotocol("quarterdeck.v1.json")
MAX_FRAME = 64 * 2**20
"""Bytes of a frame that are taken: a job may come with arguments, a result and errors."""
RATE = 400.0
"""Frames a second that are sent; the service takes 500."""
BURST = 1000.0
"""Frames that are sent at once, after a pause; the service takes 1500."""
CLOSE_TIMEOUT = 1.0

_FATAL = {
    4400: (UnexpectedAnswer, "the service does not understand this client"),
    4401: (Unauthenticated, "a valid API key is needed"),
    4403: (Forbidden, "the key does not allow to follow anything"),
    4413: (UnexpectedAnswer, "a frame of this client was too large"),
}


class Place(msgspec.Struct):
    """What a snapshot tells that matters here."""

    state: str
    seq: int


class Frame(msgspec.Struct):
    """Any frame of the service. Those of a later version may have other types and more fields."""

    type: str
    sub: str | None = None
    cursor: str | None = None
    job: Place | None = None
    problem: dict[str, Any] | None = None
    heartbeat: float = 30.0
    reconnect_after: float = 0.0


class Connection:
    """Frames in and out. It sees to it that the other side is there, and asks no more of it than it takes."""

    def __init__(self, socket: ClientConnection, heartbeat: float) -> None:
        self._socket = socket
        self._heartbeat = heartbeat
        self._outgoing: deque[str] = deque()
        self._something = asyncio.Event()
        self._heard = asyncio.get_running_loop().time()
        self._room = BURST
        self.reconnect_after: float | None = None
        """What the service asked for before it closed the connection."""

    def send(self, frame: Mapping[str, Any]) -> None:
        """Sends a frame soon; in vain where the connection is lost meanwhile."""
        self._outgoing.append(json.dumps(frame))
        self._something.set()

    async def frames(self) -> AsyncGenerator[tuple[Frame, dict[str, Any]], None]:
        """The frames as they come, each also as it is, until the connection is lost.

        Raises QuarterdeckClientError where it is no use to connect again.
        """
        writer = asyncio.create_task(self._write(), name="quarterdeck-client-writer")
        try:
            while True:
                document = json.loads(await self._socket.recv())
                self._heard = asyncio.get_running_loop().time()
                frame = msgspec.convert(document, Frame)
                if frame.type == "ping":
                    self.send({"op": "pong"})
                elif frame.type == "drain":
                    self.reconnect_after = frame.reconnect_after
                elif frame.sub is not None:
                    yield frame, document
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd is not None else None
            if code in _FATAL:
                kind, words = _FATAL[code]
                reason = closed.rcvd.reason if closed.rcvd is not None else ""
                raise kind(reason or words) from None
        except (ValueError, RecursionError) as error:
            raise UnexpectedAnswer(f"a frame of the service cannot be read: {error}") from None
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _write(self) -> None:
        """Sends what there is to send, and a ping where that is nothing; cuts the connection of who is silent."""
        loop = asyncio.get_running_loop()
        counted = loop.time()
        while True:
            self._something.clear()
            if not self._outgoing:
                try:
                    async with asyncio.timeout(self._heartbeat / 2):
                        await self._something.wait()
                except TimeoutError:
                    self._outgoing.append('{"op":"ping"}')
            now = loop.time()
            if now - self._heard >= 2 * self._heartbeat:
                break
            self._room = min(BURST, self._room + (now - counted) * RATE)
            counted = now
            if self._room < 1:
                await asyncio.sleep(1 / RATE)
                continue
            self._room -= 1
            try:
                async with asyncio.timeout(2 * self._heartbeat):
                    await self._socket.send(self._outgoing.popleft())
            except ConnectionClosed:
                return
            except TimeoutError:
                break
        self._socket.transport.abort()


@asynccontextmanager
async def opened(
    address: httpx.URL, headers: Mapping[str, str], trusted: ssl.SSLContext | None, timeout: float
) -> AsyncIterator[Connection]:
    """Opens a connection, and waits for the service's first frame.

    Raises Unreachable, and other QuarterdeckClientErrors where the service refuses.
    """
    url = str(address.copy_with(scheme="wss" if address.scheme == "https" else "ws")).rstrip("/") + "/v1/live"
    try:
        socket = await connect(
            url,
            additional_headers=headers,
            ssl=trusted,
            subprotocols=[SUBPROTOCOL],
            compression=None,  # the service has none
            proxy=None,  # a proxy of this machine is not meant for the service
            max_size=MAX_FRAME,
            ping_interval=None,  # frames of the protocol tell whether the other side is there
            open_timeout=timeout,
            close_timeout=CLOSE_TIMEOUT,
        )
    except InvalidStatus as error:
        raise _refusal(address, error.response.status_code, bytes(error.response.body or b"")) from None
    except (OSError, TimeoutError, WebSocketException) as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise Unreachable(f"no service can be reached at {address} ({words})") from None
    try:
        yield Connection(socket, await _greeting(address, socket, timeout))
    finally:
        await socket.close()


async def _greeting(address: httpx.URL, socket: ClientConnection, timeout: float) -> float:
    """The heartbeat that the service's first frame tells."""
    try:
        async with asyncio.timeout(timeout):
            hello = msgspec.convert(json.loads(await socket.recv()), Frame)
    except (TimeoutError, ConnectionClosed):
        raise Unreachable(f"{address} accepts a live channel and says nothing") from None
    except ValueError:
        hello = None
    if hello is None or hello.type != "hello":
        raise UnexpectedAnswer(f"{address} has a live channel of another kind: is the URL right?")
    return max(hello.heartbeat, 0.01)


def _refusal(address: httpx.URL, status: int, body: bytes) -> QuarterdeckClientError:
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    if isinstance(problem, dict) and "title" in problem:
        return error_of(status, problem, asked=f"{address} refused: ")
    if status in (502, 503, 504):
        return Unreachable(f"{address} answers {status}", status=status)
    return UnexpectedAnswer(f"{address} answers {status} to a live channel: is the URL right?", status=status)
