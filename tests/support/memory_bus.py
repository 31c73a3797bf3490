"""A bus inside the test's process, that does what a test tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from quarterdeck.engine.hints import Message, from_text


class MemoryHub:
    """What the buses of a test are connected to; remembers every message."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.members: dict[MemoryBus, Callable[[str], None]] = {}

    def bus(self, limit: int = 7500) -> MemoryBus:
        """One more member."""
        return MemoryBus(self, limit)

    def say(self, text: str) -> None:
        """Everybody who listens hears this."""
        for hear in list(self.members.values()):
            hear(text)

    @property
    def messages(self) -> list[Message]:
        """What was sent, hellos included."""
        return [message for message in map(from_text, self.sent) if message is not None]


class MemoryBus:
    """One member's Bus."""

    def __init__(self, hub: MemoryHub, limit: int) -> None:
        self._hub = hub
        self._limit = limit
        self.refuses: Exception | None = None
        """What connecting and sending raise, if they do."""
        self.hangs = False
        """Whether connecting and sending take for ever."""
        self.tries = 0
        self._cut = asyncio.Event()

    @property
    def limit(self) -> int:
        """The most bytes of a message."""
        return self._limit

    def cut(self) -> None:
        """Ends the link."""
        self._cut.set()

    async def listen(self, on_message: Callable[[str], None], on_connected: Callable[[], None]) -> None:
        """Listens until it is cut."""
        await self._trouble()
        self._cut.clear()
        self._hub.members[self] = on_message
        try:
            on_connected()
            await self._cut.wait()
            raise ConnectionError("cut")
        finally:
            del self._hub.members[self]

    async def send(self, messages: Sequence[str]) -> None:
        """Tells all members."""
        await self._trouble()
        assert all(len(message.encode()) <= self._limit for message in messages)
        self._hub.sent.extend(messages)
        for message in messages:
            self._hub.say(message)

    async def _trouble(self) -> None:
        self.tries += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.refuses is not None:
            raise self.refuses
