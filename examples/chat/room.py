"""A room of the chat, spoken to over the live channel: JSON frames on a WebSocket. Both clients use it."""

import asyncio
import json
import random
import re
from collections.abc import AsyncGenerator
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

SUBPROTOCOL = Subprotocol("quarterdeck.v1.json")

Frame = dict[str, Any]


class Room:
    """One member's place in a room."""

    def __init__(self, room: str, name: str, *, service: str, key: str | None = None) -> None:
        """`service` is the URL of the service. Raises ValueError for a room that cannot be."""
        if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,100}", room):
            raise ValueError(f"no room can be called {room!r}")
        self.room = room
        self.name = name
        self._address = service.replace("http", "ws", 1).rstrip("/") + "/v1/live"
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._socket: ClientConnection | None = None
        self._joined = asyncio.Event()

    async def frames(self, after: int = 0) -> AsyncGenerator[Frame, None]:
        """What the service says of the room, beginning with the messages after one of them that are still kept.

        After a break it goes on where it was. Raises InvalidStatus where the service does not let us in.
        """
        last = str(after)
        while True:
            pause = random.uniform(0.5, 1.5)
            try:
                async with connect(
                    self._address, subprotocols=[SUBPROTOCOL], additional_headers=self._headers
                ) as self._socket:
                    await self._send(op="subscribe", sub="room", topic=f"chat.{self.room}", cursor=last)
                    async for text in self._socket:
                        frame: Frame = json.loads(text)
                        match frame["type"]:
                            case "ping":
                                await self._send(op="pong")
                            case "drain":  # the service restarts, and says when to come back
                                pause = frame["reconnect_after"]
                            case "subscribed" | "message" | "gap" | "error":
                                last = str(frame.get("id") or frame.get("cursor") or last)
                                if frame["type"] == "subscribed":
                                    self._joined.set()
                                yield frame
            except InvalidStatus as refused:
                if refused.response.status_code < 500:
                    raise
            except (OSError, InvalidHandshake, ConnectionClosed):
                pass
            finally:
                self._joined.clear()
            await asyncio.sleep(pause)

    async def enter(self, line: str) -> None:
        """Says a line in the room; `/roll 2d6` has the service roll dice. Waits until we are in the room."""
        await self._joined.wait()
        command, _, dice = line.partition(" ")
        if command == "/roll":
            args = {"room": self.room, "name": self.name, **({"dice": dice.strip()} if dice.strip() else {})}
            await self._send(op="submit", ref="roll", job={"kind": "roll", "args": args})
        else:
            data = {"from": self.name, "text": line}
            await self._send(op="publish", ref="say", topic=f"chat.{self.room}", data=data)

    async def _send(self, **frame: Any) -> None:
        if self._socket is not None:
            await self._socket.send(json.dumps(frame))


def as_line(frame: Frame) -> str:
    """A frame as a line of text. Anybody may publish anything to a topic, so nothing is taken for granted."""
    match frame:
        case {"type": "message", "data": {"from": str(name), "text": str(text)}}:
            line = f"{name}: {text}"
        case {"type": "message"}:
            line = "(something that is no line of a chat)"
        case {"type": "gap"}:
            line = "(earlier messages are not kept any more)"
        case {"type": "error", "problem": {"title": title, "detail": detail}}:
            line = f"({title}: {detail})"
        case _:
            line = "(you are in the room)"
    return "".join(character if character.isprintable() else "?" for character in line)
