"""Stream: an open connection as httpcore reads and writes it; gone at once when it is aborted."""

from __future__ import annotations

import asyncio
from typing import Any

import httpcore


class Stream(httpcore.AsyncNetworkStream):
    """A connection of asyncio's. Time limits are for whoever calls: one for everything, not one for each read."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._enough = False
        self.ended = False
        """Whether somebody who wanted to read more was told that the other side has ended."""

    def stop_reading(self) -> None:
        """Whoever wants to read more gets a ReadError: so an answer ends in the same way wherever it is cut."""
        self._enough = True

    @property
    def fresh(self) -> bool:
        """Whether the other side has left it open and has said nothing more, as far as is known."""
        # asyncio has no public word for bytes that nobody has read. They would be taken for the next answer.
        unread = self._reader._buffer  # type: ignore[attr-defined]  # noqa: SLF001
        return not (self._enough or unread or self._reader.at_eof() or self._writer.is_closing())

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - httpcore's signature
        """Some bytes, or none where the other side has ended. Raises httpcore.ReadError."""
        if self._enough:
            raise httpcore.ReadError("enough was read")
        try:
            data = await self._reader.read(max_bytes)
        except OSError as error:
            raise httpcore.ReadError(error.strerror or type(error).__name__) from None
        self.ended = not data
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - httpcore's signature
        """Sends, and waits where the other side is slow to take it. Raises httpcore.WriteError."""
        try:
            self._writer.write(buffer)
            await self._writer.drain()
        except (OSError, RuntimeError) as error:  # uvloop raises RuntimeError where the transport is closed
            raise httpcore.WriteError(str(error) or type(error).__name__) from None

    async def aclose(self) -> None:
        """Aborts it; nothing is waited for, so that no cancel can come between."""
        self.abort()

    def abort(self) -> None:
        """Ends the connection at once, whatever is unsent."""
        self._writer.transport.abort()

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks: `is_readable`, on a connection that waits, means that it is not to be used again."""
        return not self.fresh if info == "is_readable" else self._writer.get_extra_info(info)
