"""A client of the live channel that keeps no rule: it makes its frames by hand (RFC 6455, section 5.2)."""

import base64
import os
import select
import socket
import struct
import time
from urllib.parse import urlsplit

TEXT, BINARY, CLOSE, PING = 0x1, 0x2, 0x8, 0x9


def frame(opcode: int, payload: bytes, *, final: bool = True, reserved: int = 0, masked: bool = True) -> bytes:
    """A client's frame; its mask is zero, so that its payload goes as it is."""
    head = bytes([(0x80 if final else 0) | reserved << 4 | opcode])
    mask_bit = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head += bytes([mask_bit | size])
    elif size < 2**16:
        head += bytes([mask_bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([mask_bit | 127]) + struct.pack(">Q", size)
    return head + (bytes(4) if masked else b"") + payload


def text_frame(text: str) -> bytes:
    """A message in one frame."""
    return frame(TEXT, text.encode())


def opened(url: str, *, headers: str = "", receive_buffer: int | None = None) -> socket.socket:
    """Connects, and reads away the head of the answer, which must be a 101."""
    parts = urlsplit(url)
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect((parts.hostname, parts.port))
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET /v1/live HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        assert byte, head
        head += byte
    assert head.startswith(b"HTTP/1.1 101"), head
    return connection


def close_code(received: bytes) -> int | None:
    """The code of the close frame among a server's frames, if there is one."""
    at = 0
    while at + 2 <= len(received):
        opcode, size = received[at] & 0x0F, received[at + 1]
        at += 2
        if size == 126:
            (size,) = struct.unpack(">H", received[at : at + 2])
            at += 2
        elif size == 127:
            (size,) = struct.unpack(">Q", received[at : at + 8])
            at += 8
        if opcode == CLOSE and at + 2 <= len(received):
            (code,) = struct.unpack(">H", received[at : at + 2])
            return int(code)
        at += size
    return None


def ended(connection: socket.socket, within: float = 10.0) -> int:
    """Reads until the server has closed; returns the code, 1006 where there was none."""
    connection.settimeout(within)
    received = b""
    try:
        while close_code(received) is None and (chunk := connection.recv(65536)):
            received += chunk
    except ConnectionError:
        pass
    return close_code(received) or 1006


def flooded(url: str, frames: list[bytes], within: float = 20.0) -> int:
    """Sends frames without end, reading meanwhile; returns the code by which that ends."""
    until = time.monotonic() + within
    data, received = b"".join(frames), b""
    with opened(url) as connection:
        connection.setblocking(False)
        rest = data
        while time.monotonic() < until:
            readable, writable, _ = select.select([connection], [connection], [], 1)
            try:
                if readable:
                    chunk = connection.recv(65536)
                    received += chunk
                    if (code := close_code(received)) is not None or not chunk:
                        return code or 1006
                if writable:
                    rest = rest[connection.send(rest) :] or data
            except BlockingIOError:
                pass
            except ConnectionError:
                return close_code(received) or 1006
    raise AssertionError(f"it was not closed within {within:g} s")
