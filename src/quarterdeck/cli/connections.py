"""Connections: who is let in, and how those that are in are seen off, without a request lost on the way.

Hypercorn's own way out closes every kept connection at once, also one on which a request has just been sent, and waits
for the others, for ever from Python 3.12.1 on. Its connections are used here, its door and its end are not.
"""

import asyncio
import contextlib
import socket
from typing import Any, cast

from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.typing import Framework
from hypercorn.utils import wrap_app

from quarterdeck.cli.websockets import BoundedSockets

LINGER = 1.0
"""Seconds of silence after which a kept connection is closed while the service stops."""

_STEPS_IN = 5
"""Steps of the loop from a connection that was accepted to one that is served."""


class Connections:
    """The connections of one listening socket.

    `open`, then `refuse` (nobody else is let in), then `see_off`: from the first of the two on every answer says
    `Connection: close`, and a connection without a request is closed once it was silent for LINGER seconds.
    """

    def __init__(self, app: Framework, config: Config, listener: socket.socket) -> None:
        self._app = wrap_app(app, config.wsgi_max_body_size, "asgi")
        self._config = config
        self._listener = listener
        self._context = WorkerContext(None)
        self._closing = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._refusing = False
        self._live: dict[asyncio.Task[Any], _Connection] = {}

    async def open(self) -> None:
        """Lets clients in, those first who have waited; does nothing after `refuse`."""
        if self._refusing:
            return
        secure = self._config.create_ssl_context()
        self._server = await asyncio.start_server(
            self._serve,
            sock=self._listener,
            backlog=self._config.backlog,
            ssl=secure,
            ssl_handshake_timeout=self._config.ssl_handshake_timeout if secure else None,
        )

    @property
    def live(self) -> int:
        """How many there are."""
        return len(self._live)

    def close_after_answers(self) -> None:
        """From now on no connection is kept; new ones are still let in."""
        self._closing.set()
        for connection in self._live.values():
            connection.close_after_answer()

    async def refuse(self) -> None:
        """Lets nobody in any more. Who still waits at the door is let in by those who share the socket, if any do."""
        if self._refusing:
            return
        self._refusing = True
        self.close_after_answers()
        if self._server is not None:
            # The loop of the standard library drops who is half in when the server closes: first it stops, then that.
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
            await _let_in()
            self._server.close()
            await _let_in()
        self._listener.close()

    async def see_off(self, timeout: float) -> None:
        """Waits until all connections are over, at most `timeout` seconds; those left are not waited for any more."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while self._live and (left := deadline - loop.time()) > 0:
            await asyncio.wait(set(self._live), timeout=left)
        await self._context.terminated.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        connection = _Connection(self._app, loop, self._config, self._context, {}, reader, writer)
        connection.closing = self._closing
        connection.app = BoundedSockets(self._app, writer.transport.abort)
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._live[task] = connection
        if self._closing.is_set():
            loop.call_soon(connection.close_after_answer)  # once it has begun
        try:
            await connection
        except asyncio.CancelledError:
            pass  # the process ends; of a cancelled task the streams of Python 3.11 would tell as of a fault
        finally:
            del self._live[task]


async def _let_in() -> None:
    for _ in range(_STEPS_IN):
        await asyncio.sleep(0)


class _Connection(TCPServer):
    """Hypercorn's connection, that takes its leave before it goes."""

    closing: asyncio.Event

    def close_after_answer(self) -> None:
        """Ends the connection with its next answer, which says so. HTTP/2 ends when it is silent."""
        wrapper = getattr(self, "protocol", None)  # there is none where the client was gone at once
        if wrapper is not None and isinstance(wrapper.protocol, H11Protocol):
            wrapper.protocol.keep_alive_requests = self.config.keep_alive_max_requests

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()  # or the connection of a client that has gone stays until its time is over

    async def _idle_timeout(self) -> None:
        silent_since = self.loop.time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.keep_alive_timeout):
                await self.closing.wait()
                await asyncio.sleep(silent_since + LINGER - self.loop.time())
        await asyncio.shield(self._initiate_server_close())
