"""A memcached of a test's own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

HERE = "127.0.0.1"


class MemcachedProcess:
    """A `memcached` on a free port; a context manager that ends it.

    It can be killed and started again on the same port, and frozen: then it takes connections and never answers.
    """

    def __init__(self, *options: str) -> None:
        with socket.socket() as free:
            free.bind((HERE, 0))
            self.port = int(free.getsockname()[1])
        self._options: Sequence[str] = options
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def address(self) -> str:
        """As in the setting `memcached`."""
        return f"{HERE}:{self.port}"

    def start(self, within: float = 10.0) -> None:
        """Starts it, empty, and waits until it takes connections."""
        words = ["memcached", "-l", HERE, "-p", str(self.port), "-U", "0", "-m", "64", *self._options]
        if os.geteuid() == 0:
            words += ["-u", "nobody"]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            try:
                socket.create_connection((HERE, self.port), 1).close()
                return
            except OSError:
                time.sleep(0.005)
        raise AssertionError(f"no memcached within {within:g} s; exit code {self._process.poll()}")

    def kill(self) -> None:
        """Ends it at once, frozen or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        """From now on nothing is answered, while connections stay and new ones are taken."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Goes on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

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
