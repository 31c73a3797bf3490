"""Lines to standard error from a thread of their own, so that a full pipe stops nobody but that thread."""

import os
import select
import sys
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TextIO

MAX_WAITING = 4096
"""Lines that may wait to be written; what comes beyond them is dropped and counted."""

# Writes up to PIPE_BUF bytes are atomic (POSIX write()), so lines of processes that share a pipe do not mix.
_ATOMIC = select.PIPE_BUF


class LineWriter:
    """Takes lines without ever waiting, and writes them in order.

    The queue is a `SimpleQueue` because its `put` is reentrant: a signal handler may log while the code it interrupted
    is logging. The descriptor is written to directly: a buffered stream has a lock, which would be held while its pipe
    is full and then stop whoever else writes there, the interpreter's exit included.
    """

    def __init__(self, tell: Callable[[int], None] = lambda _dropped: None) -> None:
        """`tell` is called with the number of lines dropped so far once there is room again; it may put a line."""
        self._tell = tell
        self._stream: TextIO | None = None
        self._waiting: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._dropped = 0
        self._told = 0
        os.register_at_fork(after_in_child=self._forget)

    def start(self, stream: TextIO | None = None) -> None:
        """Write to `stream` from now on; None means what `sys.stderr` is at each moment."""
        self._stream = stream
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
            self._thread.start()

    @property
    def dropped(self) -> int:
        """How many lines were not written. Threads that count at the very same moment may lose one."""
        return self._dropped

    def put(self, line: bytes) -> None:
        """Take a line, its newline included, or drop it if too many wait."""
        if self._waiting.qsize() >= MAX_WAITING:
            self._dropped += 1
            return
        self._waiting.put(line)
        if self._thread is None:
            self.start(self._stream)

    def flush(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until all lines taken so far are written; return whether they are."""
        if self._thread is None:
            return True
        written = threading.Event()
        self._waiting.put(written)
        return written.wait(timeout)

    def _forget(self) -> None:
        # A forked child has neither the thread nor a queue in a known state; the lines in it are the parent's.
        self._waiting = SimpleQueue()
        self._thread = None

    def _run(self) -> None:
        while True:
            item: bytes | threading.Event | None = self._waiting.get()
            while isinstance(item, bytes):
                lines = [item]
                size = len(item)
                while isinstance(item := self._next(), bytes) and size + len(item) <= _ATOMIC:
                    lines.append(item)
                    size += len(item)
                if not self._write(b"".join(lines)):
                    self._dropped += len(lines)
                elif self._dropped > self._told and self._waiting.qsize() < MAX_WAITING // 2:
                    self._told = self._dropped
                    self._tell(self._told)
            if item is not None:
                item.set()

    def _next(self) -> bytes | threading.Event | None:
        try:
            return self._waiting.get_nowait()
        except Empty:
            return None

    def _write(self, text: bytes) -> bool:
        stream = self._stream or sys.stderr
        try:
            descriptor = stream.fileno()
        except (AttributeError, OSError, ValueError):
            descriptor = None
        try:
            if descriptor is None:
                stream.write(text.decode())
            else:
                _write_all(descriptor, text)
        except Exception:  # noqa: BLE001 (closed, its reader gone, no stream at all; the next line may find another)
            return False
        return True


def _write_all(descriptor: int, text: bytes) -> None:
    while text:
        try:
            text = text[os.write(descriptor, text) :]
        except BlockingIOError:
            # Somebody who shares the pipe or terminal made it non-blocking.
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
