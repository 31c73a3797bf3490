"""Socket: a WebSocket whose every wait is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from quarterdeck.web.gate import Message, Receive, Scope, Send

MAX_FRAME = 256 * 1024
"""Bytes of a frame that a client may send."""
SEND_TIMEOUT = 4.0
"""Seconds that a client may take to read what fills its connection."""
CLOSE_TIMEOUT = 1.0
"""Seconds in which a client is to answer that the socket is closed."""
CATCH_UP_TIMEOUT = 2.0
"""Seconds in which one that was too slow may still read what is on its way to it, and then why it ends there.

No more: a stalled client is to be gone, its buffers with it, 10 seconds after it has read last.
"""
STOP_TIMEOUT = 5.0
"""Seconds in which one that was too fast may stop to send: before that it hardly reads."""

CLOSED = 1000
FAILED = 1011
BAD_FRAME = 4400
FRAME_TOO_LARGE = 4413
TOO_SLOW = 1013

LONGEST_WRITE = 64 * 1024
"""Characters that are sent at once."""

# Extensions of the server of `qd serve`: to cut the connection of a client that does not read, and to send several
# messages by one write. Where another server stands in front, it goes without.
ABORT = "quarterdeck.abort"
SEND_TEXTS = "quarterdeck.send_texts"


class SocketClosed(Exception):
    """The socket is closed, by either side."""


class Socket:
    """Text in, text out. Every method raises SocketClosed once it is closed."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        extensions = scope.get("extensions") or {}
        self._abort = extensions.get(ABORT)
        self._send_texts = extensions.get(SEND_TEXTS)
        self._closed = False
        self._gone = False
        self._farewell: tuple[int, str, float] = (CLOSED, "", CLOSE_TIMEOUT)

    async def accept(self, subprotocol: str | None) -> None:
        """Opens it."""
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol})

    async def receive(self) -> str:
        """The next frame. One that is no text, or too long, closes the socket."""
        if self._closed:
            raise SocketClosed
        message: Message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._closed = self._gone = True
            raise SocketClosed
        text = message.get("text")
        if not isinstance(text, str):
            self.close(BAD_FRAME, "a frame must be a JSON object in text")
            raise SocketClosed
        if len(text) > MAX_FRAME or len(text.encode("utf-8", "surrogatepass")) > MAX_FRAME:
            self.close(FRAME_TOO_LARGE, f"a frame may have {MAX_FRAME} bytes")
            raise SocketClosed
        return text

    async def send(self, frames: Sequence[str]) -> None:
        """Sends frames. A client that does not read them in time is too slow, and the socket is closed."""
        if self._closed:
            raise SocketClosed
        try:
            if self._send_texts is None or len(frames) == 1:
                for frame in frames:
                    async with asyncio.timeout(SEND_TIMEOUT):
                        await self._send({"type": "websocket.send", "text": frame})
            else:
                for group in _groups(frames):
                    async with asyncio.timeout(SEND_TIMEOUT):
                        await self._send_texts(group)
        except TimeoutError:
            self.close(TOO_SLOW, "too slow", within=CATCH_UP_TIMEOUT)
            raise SocketClosed from None

    def close(self, code: int, reason: str = "", *, within: float | None = None) -> None:
        """From now on nothing goes in or out, and `finish` tells the client why; of several reasons the first."""
        if not self._closed:
            self._closed = True
            self._farewell = (code, reason, CLOSE_TIMEOUT if within is None else within)

    async def finish(self) -> None:
        """Tells the client that it is closed, and waits for its answer; a client that does not even read is cut off."""
        if self._gone:
            return
        self._closed = True
        code, reason, within = self._farewell
        patient = within > CLOSE_TIMEOUT and self._abort is not None
        told = False
        try:
            async with asyncio.timeout(within if patient else CLOSE_TIMEOUT):
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
                told = True
                # What it has sent meanwhile is read away: closed on top of that, the connection would be reset, and
                # the close frame lost.
                while (await self._receive())["type"] != "websocket.disconnect":
                    pass
        except TimeoutError:
            if patient or not told:
                self.cut()

    def cut(self) -> None:
        """Ends the connection at once, if it is still there."""
        if self._abort is not None:
            self._abort()


def _groups(frames: Sequence[str]) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for frame in frames:
        if group and size + len(frame) > LONGEST_WRITE:
            yield group
            group, size = [], 0
        group.append(frame)
        size += len(frame)
    if group:
        yield group
