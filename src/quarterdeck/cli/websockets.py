"""Hypercorn's WebSockets, bounded: what they lack where a client does not behave.

As it comes, Hypercorn goes on to collect a message that is too long after it has said so, compresses for whoever asks,
drops a client that breaks the protocol without saying why, has no way to get rid of one that does not read, and keeps
the connection of one that is over until its next ping, or for ever where the client sends on.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from hypercorn.protocol.events import Data, StreamClosed
from hypercorn.protocol.ws_stream import FrameTooLargeError, WSStream
from hypercorn.typing import AppWrapper
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Message, Ping, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

ABORT = "quarterdeck.abort"
"""The ASGI extension that cuts a socket's connection."""
SEND_TEXTS = "quarterdeck.send_texts"
"""The ASGI extension that sends several messages at once."""
FAREWELL = 2.0
"""Seconds that a client has to close a socket on which it sent too much."""


class BoundedStream(WSStream):
    """A WebSocket of a connection that can be cut."""

    abort: Callable[[], None]
    deaf: bool
    over: asyncio.Event

    @classmethod
    def take_over(cls, stream: WSStream, abort: Callable[[], None]) -> "BoundedStream":
        """Makes one of a stream that was not accepted yet: Hypercorn has no seam for it."""
        stream.__class__ = cls
        if not isinstance(stream, cls):
            raise TypeError("a stream of another kind")
        stream.abort = abort
        stream.deaf = False
        stream.over = asyncio.Event()
        stream.handshake.extensions = None  # no compression: a small frame may be inflated to anything
        return stream

    async def send_texts(self, texts: Sequence[str]) -> None:
        """Sends several messages by one write."""
        if self.closed:
            return
        try:
            data = b"".join(self.connection.send(TextMessage(data=text)) for text in texts)
        except LocalProtocolError:  # it is being closed
            return
        await self.send(Data(stream_id=self.stream_id, data=data))

    async def _send_pings(self) -> None:
        while not self.closed and not self.over.is_set():
            await self._send_wsproto_event(Ping())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.config.websocket_ping_interval):
                    await self.over.wait()

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            if isinstance(event, Message):
                await self._collect(event)
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                if self.connection.state is ConnectionState.REMOTE_CLOSING:
                    await self._send_wsproto_event(event.response())
                elif self.connection.state is ConnectionState.OPEN:  # the client has broken the protocol
                    await self._send_wsproto_event(CloseConnection(code=event.code))
                await self.send(StreamClosed(stream_id=self.stream_id))

    async def _collect(self, event: Message[Any]) -> None:
        if self.deaf:
            return
        try:
            self.buffer.extend(event)
        except FrameTooLargeError:
            self.deaf = True
            self.buffer.clear()
            await self._send_wsproto_event(CloseConnection(code=CloseReason.MESSAGE_TOO_BIG))
            asyncio.get_running_loop().call_later(FAREWELL, self.abort)
            return
        if event.message_finished and self.app_put is not None:
            await self.app_put(self.buffer.to_message())
            self.buffer.clear()


class BoundedSockets:
    """An application as Hypercorn calls it, for one connection."""

    def __init__(self, app: AppWrapper, abort: Callable[[], None]) -> None:
        self._app = app
        self._abort = abort

    async def __call__(self, scope: Any, receive: Any, send: Any, sync_spawn: Any, call_soon: Any) -> None:
        """Serves a request."""
        stream = getattr(send, "__self__", None)
        # Over HTTP/2 the connection is not the socket's alone.
        if scope["type"] == "websocket" and isinstance(stream, WSStream) and scope["http_version"] == "1.1":
            bounded = BoundedStream.take_over(stream, self._abort)
            scope["extensions"] |= {ABORT: self._abort, SEND_TEXTS: bounded.send_texts}
            try:
                await self._app(scope, receive, send, sync_spawn, call_soon)
            finally:
                bounded.deaf = True
                bounded.over.set()
                # Whoever still waits to hand over a message waits in vain.
                queue = receive.__self__
                while not queue.empty():
                    queue.get_nowait()
        else:
            await self._app(scope, receive, send, sync_spawn, call_soon)
