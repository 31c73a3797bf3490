"""A server of a test's own, as a process on a free port."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from tests.support.processes import free_port

HERE = "127.0.0.1"


class Daemon(ABC):
    """A context manager that starts and ends it.

    It can be killed and started again on the same port, and frozen: then it takes connections and never answers.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.kill()

    @abstractmethod
    def command(self) -> list[str]:
        """What starts it."""

    def start(self, within: float = 30.0) -> None:
        """Starts it, empty, and waits until it takes connections."""
        words = self.command()
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + within
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection((HERE, self.port), 1).close()
                return
            except OSError:
                time.sleep(0.005)
        raise AssertionError(f"no {words[0]} within {within:g} s; exit code {self._process.poll()}")

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
