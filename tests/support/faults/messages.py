"""As much of PostgreSQL's protocol as is needed to know which statement an answer belongs to."""

from __future__ import annotations

import struct
from collections import deque
from typing import NamedTuple

import msgspec

from tests.support.faults.rules import Ending

SSL_REQUEST = 80877103
GSS_REQUEST = 80877104
CANCEL_REQUEST = 80877102

QUERY, PARSE, BIND, EXECUTE, SYNC, CLOSE = b"Q", b"P", b"B", b"E", b"S", b"C"
READY, KEY_DATA = b"Z", b"K"
# Notification, notice, parameter: the server may send them at any time.
UNASKED = frozenset((b"A", b"N", b"S"))

_HEADER = 5
_LENGTH = struct.Struct("!i")


class Message(NamedTuple):
    """One message after the start-up: its type, and all its bytes, type and length included."""

    kind: bytes
    whole: bytes

    @property
    def body(self) -> bytes:
        """What follows type and length."""
        return self.whole[_HEADER:]


class Splitter:
    """Cuts a stream into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes."""
        self._buffer += data
        messages = []
        start = 0
        while len(self._buffer) - start >= _HEADER:
            end = start + 1 + _LENGTH.unpack_from(self._buffer, start + 1)[0]
            if len(self._buffer) < end:
                break
            whole = bytes(self._buffer[start:end])
            messages.append(Message(whole[:1], whole))
            start = end
        del self._buffer[:start]
        return messages


class RoundTrip(msgspec.Struct):
    """What a client sent up to a point where the server answers that it is ready.

    Where `ending` is set, nobody is to hear the answer: the connection ends like that instead.
    """

    statements: list[str]
    ending: Ending | None = None


class Conversation:
    """Which statements a connection has under way. Knows simple and extended queries; not COPY from the client."""

    def __init__(self) -> None:
        self._prepared: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}
        self._statements: list[str] = []
        # The start-up ends by the first "ready"; nobody sent a statement for that.
        self._under_way: deque[RoundTrip] = deque([RoundTrip([])])

    def sent(self, message: Message) -> RoundTrip | None:
        """Takes note of a client's message; the round trip that it completes, if it does."""
        match message.kind:
            case b"Q":
                self._statements.append(_text(message.body.split(b"\0", 1)[0]))
            case b"P":
                name, sql, _ = message.body.split(b"\0", 2)
                self._prepared[name] = _text(sql)
            case b"B":
                portal, name, _ = message.body.split(b"\0", 2)
                self._portals[portal] = self._prepared.get(name, "")
            case b"E":
                self._statements.append(self._portals.get(message.body.split(b"\0", 1)[0], ""))
            case b"C":
                if message.body[:1] == b"S":
                    self._prepared.pop(message.body[1:].split(b"\0", 1)[0], None)
        if message.kind not in (QUERY, SYNC):
            return None
        trip = RoundTrip(self._statements)
        self._statements = []
        self._under_way.append(trip)
        return trip

    def answered(self, message: Message) -> RoundTrip | None:
        """The round trip that a server's message belongs to; None for those that may come at any time."""
        if message.kind in UNASKED or not self._under_way:
            return None
        return self._under_way.popleft() if message.kind == READY else self._under_way[0]


def start_parameters(body: bytes) -> dict[str, str]:
    """What a start-up message says: user, database, application_name and so on."""
    fields = [_text(field) for field in body.split(b"\0")]
    return {name: value for name, value in zip(fields[::2], fields[1::2], strict=False) if name}


def start_code(packet: bytes) -> int:
    """Which sort of first packet this is: the protocol's version, or one of the requests above."""
    code: int = _LENGTH.unpack_from(packet)[0]
    return code


def cancelled_process(packet: bytes) -> int:
    """Whose statement a cancel request is about: the backend's process id."""
    process: int = _LENGTH.unpack_from(packet, 4)[0]
    return process


def key_process(message: Message) -> int:
    """The process id in the server's key data."""
    process: int = _LENGTH.unpack_from(message.whole, _HEADER)[0]
    return process


def fatal(sqlstate: str, text: str) -> bytes:
    """The server's refusal of a connection."""
    fields = b"".join(code + value.encode() + b"\0" for code, value in _fields(sqlstate, text)) + b"\0"
    return b"E" + _LENGTH.pack(len(fields) + 4) + fields


def _fields(sqlstate: str, text: str) -> list[tuple[bytes, str]]:
    return [(b"S", "FATAL"), (b"V", "FATAL"), (b"C", sqlstate), (b"M", text)]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
