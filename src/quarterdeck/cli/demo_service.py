"""DemoService: a `qd serve` of the demo's own, in a process of its own, on an embedded database of its own."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import httpx

from quarterdeck.cli import exits
from quarterdeck.cli.exits import CommandError

START_TIMEOUT = 90.0
"""Seconds to the first ready answer; making the database is part of it."""
STOP_TIMEOUT = 30.0
"""Seconds for the service to stop before it is killed; it bounds its own stop below that."""

_PAUSE = 0.02


class DemoDirectory(NamedTuple):
    """Where a demo's files are. `lock` is an open file: who has it, has the directory for itself."""

    path: Path
    lock: int


@contextlib.contextmanager
def demo_directory(*, keep: bool = False) -> Iterator[DemoDirectory]:
    """Where the demo's database lives, so that the second run is fast.

    Where that cannot be written, or another demo uses it, it is a temporary directory, removed afterwards unless it is
    to be kept.
    """
    try:
        directory = _taken(Path(".quarterdeck/demo").absolute())
    except OSError:
        directory = _taken(Path(tempfile.mkdtemp(prefix="quarterdeck-demo-")))
        keep_files = keep
    else:
        keep_files = True
    try:
        yield directory
    finally:
        os.close(directory.lock)
        if not keep_files:
            shutil.rmtree(directory.path, ignore_errors=True)


def _taken(path: Path) -> DemoDirectory:
    """The directory, made where it is missing. Raises OSError where it cannot be written, or is another's."""
    path.mkdir(parents=True, exist_ok=True)
    lock = os.open(path / "demo.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return DemoDirectory(path, lock)


class DemoService:
    """The service; `url` is known once it is ready."""

    def __init__(self, app: str, *, directory: DemoDirectory, cwd: Path, root: Path) -> None:
        self.url = ""
        self.log_file = directory.path / "serve.log"
        self._lock = directory.lock
        self._cluster = directory.path / "cluster"
        self._command = [
            *(sys.executable, "-m", "quarterdeck", "serve", app),
            *("--bind", "127.0.0.1:0", "--database-url", "embedded", "--data-dir", str(directory.path)),
            # The settings of whoever runs the demo are not the demo's.
            *("--config", os.devnull, "--log-level", "info", "--log-format", "json"),
        ]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("QUARTERDECK_")}
        # Its jobs may call the demo's own web server.
        self._environment = {**kept, "QUICKSTART_ROOT": str(root), "QUARTERDECK_ALLOW_PRIVATE_TARGETS": "127.0.0.1"}
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Starts the process and waits until it runs jobs. Raises CommandError where it does not come to that."""
        self._process = self._spawn()
        deadline = monotonic() + START_TIMEOUT
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            while not await self._is_ready(client):
                self._check(deadline)
                await asyncio.sleep(_PAUSE)

    async def stop(self) -> None:
        """Stops the process, the embedded server with it."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        deadline = monotonic() + STOP_TIMEOUT
        while process.poll() is None:
            if monotonic() > deadline:
                process.kill()
            await asyncio.sleep(_PAUSE)
        self._process = None

    def forget_database(self) -> bool:
        """Removes the database, which holds nothing but earlier demos; false where somebody uses it."""
        if (self._cluster / "postmaster.pid").exists():
            return False
        shutil.rmtree(self._cluster)
        return True

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log_file.open("wb") as log:
            return subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(self._lock,),  # a service that is kept keeps the directory
                start_new_session=True,  # a Ctrl-C is for the demo, which stops the service after its own work
            )

    async def _is_ready(self, client: httpx.AsyncClient) -> bool:
        if not self.url:
            ready = [event for event in self._events() if event.get("event") == "service.ready"]
            if not ready:
                return False
            self.url = ready[0]["url"]
        try:
            return (await client.get(f"{self.url}/readyz")).is_success
        except httpx.TransportError:
            return False

    def _check(self, deadline: float) -> None:
        code = self._process.poll() if self._process is not None else None
        if code is None and monotonic() < deadline:
            return
        what = f"ended with exit code {code}" if code is not None else f"is not ready after {START_TIMEOUT:g} s"
        said = [line for line in self.log_file.read_text(errors="replace").splitlines() if line.startswith("qd: ")]
        why = f": {said[-1].removeprefix('qd: ')}" if said else ""
        message = f"the demo's service {what}{why} (log: {self.log_file})"
        raise CommandError(message, code if code is not None and code > 0 else exits.NO_SERVICE)

    def _events(self) -> list[dict[str, Any]]:
        found = []
        for line in self.log_file.read_text(errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:  # not a log line, or not all of it
                continue
        return [event for event in found if isinstance(event, dict)]
