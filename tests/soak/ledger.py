"""The ledger: what handlers did, each line on its own before anything else happens, so that a kill loses none."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from quarterdeck import JobContext
from tests.soak.history import Line, What

DIRECTORY = "SOAK_LEDGER"
"""The environment variable that names the directory of the ledger: a file a process."""


class Execution:
    """The handler's own account of one execution."""

    def __init__(self, ledger: Ledger, ctx: JobContext) -> None:
        self._ledger = ledger
        self._job = ctx.job
        self._closed = False

    def write(self, what: What, result: Any = None) -> None:
        """Adds a line; all but `step` close the account."""
        self._closed = self._closed or what not in ("start", "step")
        job = self._job
        self._ledger.add(
            Line(job.id, job.seq, what, time.monotonic_ns(), os.getpid(), job.attempt, job.worker or "", result)
        )

    def end(self, **result: Any) -> dict[str, Any]:
        """The result, which tells whose it is, written down as the last thing that the handler does."""
        whole = {**result, "seq": self._job.seq, "pid": os.getpid()}
        self.write("end", whole)
        return whole

    @property
    def closed(self) -> bool:
        """Whether its last line is written."""
        return self._closed


class Ledger:
    """A file that only grows, opened by the first line."""

    def __init__(self) -> None:
        self._file: int | None = None

    def add(self, line: Line) -> None:
        """Appends a line, in one write, which reaches the kernel before this returns."""
        if self._file is None:
            path = Path(os.environ[DIRECTORY]) / f"{os.getpid()}.ledger"
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(self._file, msgspec.json.encode(line) + b"\n")

    @contextmanager
    def execution(self, ctx: JobContext) -> Iterator[Execution]:
        """The account of an execution: its start, and how it ended where the handler does not say so itself."""
        execution = Execution(self, ctx)
        execution.write("start")
        try:
            yield execution
        except asyncio.CancelledError:
            if not execution.closed:
                execution.write("stopped")
            raise
        except Exception:
            if not execution.closed:
                execution.write("raised")
            raise


def read(directory: Path) -> list[Line]:
    """All lines of all processes, in order of time."""
    decoder = msgspec.json.Decoder(Line)
    lines = [
        decoder.decode(text) for path in sorted(directory.glob("*.ledger")) for text in path.read_bytes().splitlines()
    ]
    return sorted(lines, key=lambda line: line.at)
