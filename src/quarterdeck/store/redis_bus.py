"""RedisBus: publish and subscribe of Redis or Valkey. A Bus of the engine, for which the extra `redis` is needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from quarterdeck.config import ConfigError

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

CHANNEL = "quarterdeck"
LIMIT = 65_536
"""Bytes of a message. Redis would take more; whoever hears it must take it in one go."""
PING_EVERY = 5.0
"""Seconds of silence after which it asks whether anybody is at the other end."""
COMMAND_TIMEOUT = 3.0
"""Seconds that connecting, an answer to a ping, or a PUBLISH may take."""


class RedisBus:
    """Listens and publishes on two connections.

    Channels know no databases, so the number of the database in the URL is part of the channel's name: installations
    that share a server take different numbers, `redis://host/0` and `redis://host/1`.
    """

    def __init__(self, url: str) -> None:
        """Raises ConfigError where the extra `redis` is not installed, or the URL cannot be used."""
        try:
            from redis.asyncio import ConnectionPool  # noqa: PLC0415 - an extra
            from redis.asyncio.retry import Retry  # noqa: PLC0415
            from redis.backoff import NoBackoff  # noqa: PLC0415
        except ImportError:
            raise ConfigError(
                "bus: a bus over Redis or Valkey needs the extra `redis`: pip install 'quarterdeck[redis]'"
            ) from None
        if url.startswith("valkey"):
            url = url.replace("valkey", "redis", 1)
        try:
            # Only a maker of connections. The library's own time limits lose a cancel on Python 3.11, and its
            # subscriptions connect again by themselves, while whoever listens has to know of every gap.
            self._maker = ConnectionPool.from_url(
                url,
                client_name="quarterdeck-bus",
                protocol=2,  # the same messages from every server, old ones and Valkey included
                socket_timeout=None,
                socket_connect_timeout=None,
                socket_keepalive=True,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError:
            raise ConfigError("bus: the URL of the Redis or Valkey server cannot be used") from None
        self._channel = f"{CHANNEL}:{self._maker.connection_kwargs.get('db') or 0}"
        self._sender: AbstractConnection | None = None
        self._turn = asyncio.Lock()

    @property
    def limit(self) -> int:
        """The most bytes of a message."""
        return LIMIT

    async def listen(self, on_message: Callable[[str], None], on_connected: Callable[[], None]) -> None:
        """Listens until the connection is lost, which it raises."""
        async with self._connection() as sender, self._connection() as listener:
            await _send(listener, "SUBSCRIBE", self._channel)
            self._sender = sender
            try:
                while True:
                    match await _next(listener):
                        case [b"subscribe", *_]:
                            on_connected()
                        case [b"message", _, bytes(data)]:
                            on_message(data.decode(errors="replace"))
            finally:
                self._sender = None

    async def send(self, messages: Sequence[str]) -> None:
        """Publishes messages for everybody who has subscribed."""
        async with self._turn:
            sender = self._sender
            if sender is None:
                raise ConnectionError("not connected")
            try:
                async with asyncio.timeout(COMMAND_TIMEOUT):
                    await sender.connect()  # type: ignore[no-untyped-call]  # once more, after a failure
                    for message in messages:
                        await sender.send_command("PUBLISH", self._channel, message)
                    for _ in messages:
                        await sender.read_response()
            except BaseException:
                await sender.disconnect(nowait=True)
                raise

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AbstractConnection]:
        connection: AbstractConnection = self._maker.make_connection()  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT):
                await connection.connect()  # type: ignore[no-untyped-call]
            yield connection
        finally:
            await connection.disconnect(nowait=True)


async def _send(connection: AbstractConnection, *words: str) -> None:
    async with asyncio.timeout(COMMAND_TIMEOUT):
        await connection.send_command(*words)


async def _next(listener: AbstractConnection) -> object:
    """What comes next, an answer to a ping perhaps; raises where nobody gives one."""
    got: object = await listener.read_response(timeout=PING_EVERY)
    if got is None:
        await _send(listener, "PING")
        got = await listener.read_response(timeout=COMMAND_TIMEOUT)
        if got is None:
            raise ConnectionError("the server does not answer")
    return got
