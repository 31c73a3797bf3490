"""A Redis server of a test's own."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from types import TracebackType
from typing import Self

HERE = "127.0.0.1"


class RedisServer:
    """A `redis-server` on a free port that keeps nothing on disk; a context manager that ends it.

    It can be stopped and started again on the same port, and frozen: then it takes connections and never answers.
    """

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind((HERE, 0))
            self._port = int(free.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The URL of its first database."""
        return f"redis://{HERE}:{self._port}/0"

    def start(self, within: float = 10.0) -> None:
        """Starts it, and waits until it takes connections."""
        options = {"port": str(self._port), "bind": HERE, "save": "", "appendonly": "no", "loglevel": "warning"}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            try:
                socket.create_connection((HERE, self._port), 1).close()
                return
            except OSError:
                time.sleep(0.01)
        raise AssertionError(f"no redis-server within {within:g} s; exit code {self._process.poll()}")

    def stop(self) -> None:
        """Ends it, frozen or not."""
        if self._process is not None:
            self.thaw()
            self._process.terminate()
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
