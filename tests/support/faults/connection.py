"""One connection through the proxy: both ways of it, and how it ends."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress

from tests.support.faults import messages
from tests.support.faults.messages import Conversation, Splitter
from tests.support.faults.rules import Direction, Ending, Faults, LoseRequest

CHUNK = 65536
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Over(Exception):
    """The connection is to end."""


class Link:
    """A client's connection and the one that is made to the server for it."""

    def __init__(
        self, client: Streams, connect: Callable[[], Awaitable[Streams]], faults: Faults, names: dict[int, str]
    ) -> None:
        """`names` has the application by backend process: a cancel request says nothing else about itself."""
        self.application = ""
        self._reader, self._writer = client
        self._connect = connect
        self._faults = faults
        self._names = names
        self._server: asyncio.StreamWriter | None = None
        self._conversation = Conversation()
        self._silent: set[Direction] = set()
        self._backend: int | None = None

    async def run(self) -> None:
        """Serves the connection to its end; does not raise what a broken connection raises."""
        try:
            with suppress(Over, OSError, EOFError):
                await self._serve()
            await self._close()
        finally:
            if self._backend is not None:
                self._names.pop(self._backend, None)

    def cut(self, *, reset: bool = False) -> None:
        """Ends both sides at once: by a reset of the client's, if asked for."""
        if reset:
            with suppress(OSError):
                self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        for writer in (self._writer, self._server):
            if writer is not None:
                writer.transport.abort()

    def silence(self) -> None:
        """From now on nothing passes either way, while both sides stay open."""
        self._silent |= {"to_server", "to_client"}

    async def _close(self) -> None:
        """Ends both sides once what was passed on has left."""
        for writer in (self._writer, self._server):
            if writer is not None:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    async def _serve(self) -> None:
        packet = await self._first_packet()
        code = messages.start_code(packet)
        if code == messages.CANCEL_REQUEST:
            self.application = self._names.get(messages.cancelled_process(packet), "")
        else:
            self.application = messages.start_parameters(packet[4:]).get("application_name", "")
        await self._refuse()
        await self._hold("to_server")
        if self._faults.swallows(self.application, "to_server"):
            while await self._reader.read(CHUNK):
                pass
            raise Over
        reader, self._server = await self._connect()
        self._server.write((len(packet) + 4).to_bytes(4) + packet)
        if code == messages.CANCEL_REQUEST:
            self._writer.write(await reader.read(CHUNK))
            return
        await self._both_ways(reader)

    async def _first_packet(self) -> bytes:
        """The start-up message or cancel request; encryption is declined before it."""
        while True:
            length = int.from_bytes(await self._reader.readexactly(4))
            packet = await self._reader.readexactly(length - 4)
            if messages.start_code(packet) not in (messages.SSL_REQUEST, messages.GSS_REQUEST):
                return packet
            self._writer.write(b"N")

    async def _refuse(self) -> None:
        refusal = self._faults.refusal(self.application)
        if refusal is None:
            return
        if not refusal.sqlstate:
            self.cut(reset=True)
            raise Over
        self._writer.write(messages.fatal(refusal.sqlstate, "refused by the link"))
        await self._writer.drain()
        raise Over

    async def _both_ways(self, server: asyncio.StreamReader) -> None:
        ways = [asyncio.create_task(self._to_server()), asyncio.create_task(self._to_client(server))]
        try:
            ended, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ended:
                way.result()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _arrived(self, reader: asyncio.StreamReader, direction: Direction) -> bytes:
        """What arrives next and is not swallowed; nothing at the end."""
        while True:
            data = await reader.read(CHUNK)
            await self._hold(direction)
            if not data:
                await self._faults.wait_while_black(self.application, direction)
                return b""
            if self._faults.swallows(self.application, direction):
                self._silent.add(direction)
            if direction in self._silent:
                continue
            if (seconds := self._faults.delay(self.application, direction)) > 0:
                await asyncio.sleep(seconds)
            return data

    async def _hold(self, direction: Direction) -> None:
        await self._faults.wait_while_held(self.application, direction)

    async def _to_server(self) -> None:
        splitter = Splitter()
        while data := await self._arrived(self._reader, "to_server"):
            passed = bytearray()
            for message in splitter.feed(data):
                passed += message.whole
                trip = self._conversation.sent(message)
                if trip is None or not trip.statements:
                    continue
                loss = self._faults.loss(self.application, trip.statements)
                if isinstance(loss, LoseRequest):
                    await self._end(loss.ending)
                    passed.clear()
                elif loss is not None:
                    trip.ending = loss.ending
            if self._server is not None and passed:
                self._server.write(passed)
                await self._server.drain()

    async def _to_client(self, reader: asyncio.StreamReader) -> None:
        splitter = Splitter()
        while data := await self._arrived(reader, "to_client"):
            passed = bytearray()
            for message in splitter.feed(data):
                if message.kind == messages.KEY_DATA and self._backend is None:
                    self._backend = messages.key_process(message)
                    self._names[self._backend] = self.application
                trip = self._conversation.answered(message)
                if trip is None or trip.ending is None:
                    passed += message.whole
                elif message.kind == messages.READY:
                    await self._end(trip.ending)
            if passed and "to_client" not in self._silent:
                self._writer.write(passed)
                await self._writer.drain()

    async def _end(self, ending: Ending) -> None:
        if ending == "silence":
            self.silence()
            return
        self.cut(reset=ending == "reset")
        raise Over
