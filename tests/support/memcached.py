"""A memcached of a test's own."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from tests.support.daemon import HERE, Daemon


class MemcachedProcess(Daemon):
    """A `memcached`."""

    def __init__(self, *options: str) -> None:
        super().__init__()
        self._options: Sequence[str] = options

    @property
    def address(self) -> str:
        """As in the setting `memcached`."""
        return f"{HERE}:{self.port}"

    def command(self) -> list[str]:
        """What starts it."""
        words = ["memcached", "-l", HERE, "-p", str(self.port), "-U", "0", "-m", "64", *self._options]
        return [*words, "-u", "nobody"] if os.geteuid() == 0 else words

    def ask(self, command: str) -> list[str]:
        """The lines that it answers to a command, up to END, OK or an error."""
        with socket.create_connection((HERE, self.port), 5) as peer, peer.makefile("rwb") as file:
            file.write(command.encode() + b"\r\n")
            file.flush()
            lines: list[str] = []
            while line := file.readline().decode(errors="replace").strip():
                if line in ("END", "OK", "STORED", "ERROR"):
                    break
                lines.append(line)
        return lines

    def keys(self) -> list[str]:
        """Every key that it holds."""
        lines = self.ask("lru_crawler metadump all")
        return sorted(line.split()[0].removeprefix("key=").replace("%3A", ":") for line in lines if "key=" in line)

    def statistic(self, name: str) -> int:
        """One of its statistics."""
        return next(int(line.split()[2]) for line in self.ask("stats") if line.split()[1] == name)

    def store(self, key: str, value: bytes) -> None:
        """Writes a value, as anybody can who reaches it."""
        with socket.create_connection((HERE, self.port), 5) as peer, peer.makefile("rwb") as file:
            file.write(f"set {key} 0 0 {len(value)}\r\n".encode() + value + b"\r\n")
            file.flush()
            assert file.readline() == b"STORED\r\n"

    def fetch(self, key: str) -> bytes:
        """Reads a value."""
        with socket.create_connection((HERE, self.port), 5) as peer, peer.makefile("rwb") as file:
            file.write(f"get {key}\r\n".encode())
            file.flush()
            head = file.readline().split()
            assert head[0] == b"VALUE", head
            return file.read(int(head[3]))
