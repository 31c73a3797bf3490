"""`python -m tests.support.rebinding CALLS`: calls of names whose name server changes its mind.

As root of a network and mount namespace of its own (`unshare -rmn`), with `--own-network`, the loopback device gets a
public address, too, DNS is answered on port 53, and the system's resolver is pointed there: the product as it is makes
the calls. Without it, an address of the loopback network that is allowed stands for the public one, and another
function for `socket.getaddrinfo`; the questions and answers are the same. Either way nothing leaves the machine. What
came of the calls is printed as JSON.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from quarterdeck.domain.handler import JobContext
from quarterdeck.handlers import Outbound, built_in
from quarterdeck.handlers.dialer import TargetRefused
from quarterdeck.handlers.http import KIND
from tests.support.web_servers import Asked, WebServer, reply, web_server

PUBLIC = "93.184.216.34"
STAND_IN = "127.0.1.34"
LOOPBACK = "127.0.0.1"
A, AAAA = 1, 28
AT_A_TIME = 20


class NameServer(threading.Thread):
    """Answers by the first letters of a name, always for 0 seconds.

    `turn…`: the public address to every second question, the loopback one to the others. `both…`: a public IPv4 address
    and the loopback one of IPv6. `many…`: 49 public addresses and the loopback one, in any order.
    """

    def __init__(self, public: str, port: int) -> None:
        super().__init__(daemon=True)
        self.asked: Counter[str] = Counter()
        """Questions for IPv4 addresses, by the first letters."""
        self._public = public
        self._noise = random.Random(10)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((LOOPBACK, port))
        self.port: int = self._socket.getsockname()[1]

    def run(self) -> None:
        """For ever."""
        while True:
            question, client = self._socket.recvfrom(4096)
            self._socket.sendto(self._answer(question), client)

    def _answer(self, question: bytes) -> bytes:
        end = question.index(0, 12) + 5
        (kind,) = struct.unpack_from("!H", question, end - 4)
        family = socket.AF_INET if kind == A else socket.AF_INET6
        packed = [socket.inet_pton(family, each) for each in self._addresses(question[13:17].decode().lower(), kind)]
        head = question[:2] + struct.pack("!5H", 0x8580, 1, len(packed), 0, 0)
        records = [struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(each)) + each for each in packed]
        return head + question[12:end] + b"".join(records)

    def _addresses(self, name: str, kind: int) -> list[str]:
        if kind != A:
            return ["::1"] if kind == AAAA and name == "both" else []
        self.asked[name] += 1
        if name == "turn":
            return [self._public if self.asked[name] % 2 else LOOPBACK]
        if name == "both":
            return [self._public]
        network, _, _ = self._public.rpartition(".")
        addresses = [f"{network}.{number}" for number in range(100, 149)]
        addresses.insert(self._noise.randrange(50), LOOPBACK)
        return addresses


def asking(name_server: int) -> Callable[..., list[Any]]:
    """Something like `socket.getaddrinfo` that asks the name server on that port, and keeps nothing."""

    def look_up(host: bytes, port: int, **_: object) -> list[Any]:
        labels = b"".join(bytes([len(label)]) + label for label in host.split(b"."))
        found = []
        for kind, family, size in ((A, socket.AF_INET, 4), (AAAA, socket.AF_INET6, 16)):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
                asker.settimeout(10)
                question = struct.pack("!6H", 1, 0x100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, kind, 1)
                asker.sendto(question, (LOOPBACK, name_server))
                records = asker.recv(4096)[len(question) :]
            for end in range(12 + size, len(records) + 1, 12 + size):
                address = socket.inet_ntop(family, records[end - size : end])
                found.append((family, socket.SOCK_STREAM, 6, "", (address, port)))
        return found

    return look_up


def prepare(directory: Path) -> None:
    """The loopback device up and with a public address, and a resolver that asks the name server here."""
    up, set_address, set_flags = 1, 0x8916, 0x8914
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", up))
        address = struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton(PUBLIC))
        fcntl.ioctl(any_socket, set_address, address)
    for name, text in (
        ("resolv.conf", f"nameserver {LOOPBACK}\noptions edns0 timeout:5 attempts:2\n"),
        ("nsswitch.conf", "hosts: dns\n"),
    ):
        ours, theirs = directory / name, Path("/etc", name)
        ours.write_text(text)
        if theirs.exists():
            subprocess.run(["mount", "--bind", ours, theirs.resolve()], check=True)


async def hang_up(_asked: Asked, writer: asyncio.StreamWriter) -> None:
    """An answer after which the next call needs a connection of its own."""
    writer.write(reply(headers={"Connection": "close"}))


async def called(calls: int, public: str, outbound: Outbound) -> dict[str, object]:
    """Makes the calls, and counts what became of them and who was reached."""
    handler = next(handler for handler in built_in(outbound) if handler.kind == KIND)
    ends: Counter[str] = Counter()
    nothing: Any = None  # of what a job could tell and submit
    turns = iter(range(calls))

    async def caller(sink: WebServer) -> None:
        for turn in turns:
            url = f"http://{('turn', 'both', 'turn', 'many')[turn % 4]}.rebind.test:{sink.port}/"
            ctx = JobContext(SimpleNamespace(id=uuid.uuid4(), timeout=30.0), None, {}, nothing, fence=1)
            try:
                await handler.function(ctx=ctx, **handler.bind({"url": url}))
                ends["answered"] += 1
            except TargetRefused:
                ends["refused"] += 1
            except Exception as error:  # noqa: BLE001 - told
                ends[f"{type(error).__name__}: {error}"] += 1

    async with AsyncExitStack() as stack:
        sink = await stack.enter_async_context(web_server(hang_up, host=public))
        inside = [
            await stack.enter_async_context(web_server(hang_up, host=host, port=sink.port))
            for host in (LOOPBACK, "::1")
        ]
        await asyncio.gather(*(caller(sink) for _ in range(AT_A_TIME)))
        await outbound.close()
        return {
            "ends": dict(ends),
            "public": sink.connections,
            "loopback": [server.connections for server in inside],
        }


def main(calls: int, *, own_network: bool) -> None:
    """Prints what came of that many calls."""
    public = PUBLIC if own_network else STAND_IN
    with tempfile.TemporaryDirectory() as directory:
        if own_network:
            prepare(Path(directory))
        names = NameServer(public, 53 if own_network else 0)
        names.start()
        if not own_network:
            socket.getaddrinfo = asking(names.port)
        outbound = Outbound() if own_network else Outbound(["127.0.1.0/24"])
        json.dump({**asyncio.run(called(calls, public, outbound)), "asked": dict(names.asked)}, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]), own_network="--own-network" in sys.argv)
