"""The service as its users run it: `qd serve` in a process of its own, on a real port, stopped by real signals."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import httpx

from tests.support.waiting import eventually

REPOSITORY = Path(__file__).parents[2]
READY_WITHIN = 30.0
"""Seconds to the first ready answer; making a new embedded database is part of it."""


class LoggedProcess:
    """A process; everything it writes goes to its log file."""

    def __init__(self, process: subprocess.Popen[bytes], log_file: Path) -> None:
        self._process = process
        self._log_file = log_file

    @property
    def pid(self) -> int:
        """The process, to be looked up in `/proc` or signalled in a test's own way."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while the process runs; the negative signal number if a signal ended it."""
        return self._process.poll()

    def log(self) -> str:
        """What the process has written to stdout and stderr so far."""
        return self._log_file.read_text(errors="replace")


class ServeProcess(LoggedProcess):
    """A `qd serve` that was started."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log_file: Path) -> None:
        super().__init__(process, log_file)
        self.url = url

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, and only to it."""
        self._process.send_signal(number)

    async def wait_until_ready(self, within: float = READY_WITHIN) -> None:
        """Wait until `/readyz` answers 200. Raises `AssertionError`, with the log, if that does not come."""
        async with httpx.AsyncClient(base_url=self.url, timeout=5, trust_env=False) as client:

            async def ready_or_over() -> bool:
                if self.exit_code is not None:
                    return True
                try:
                    return (await client.get("/readyz")).status_code == httpx.codes.OK
                except httpx.TransportError:
                    return False

            try:
                await eventually(ready_or_over, within)
            except AssertionError as error:
                raise AssertionError(f"not ready within {within:g} s; its log:\n{self.log()}") from error
        assert self.exit_code is None, (
            f"ended with exit code {self.exit_code} before it was ready; its log:\n{self.log()}"
        )

    async def wait(self, within: float = 30.0) -> int:
        """Wait until the process has ended; return its exit code. Raises `AssertionError`, with its log, after that."""
        try:
            await eventually(lambda: self.exit_code is not None, within)
        except AssertionError as error:
            raise AssertionError(f"still running after {within:g} s; its log:\n{self.log()}") from error
        return self._process.wait()

    async def stop(self, within: float = 30.0) -> int:
        """Ask the process to end (SIGTERM), wait for that, and return its exit code."""
        self.send(signal.SIGTERM)
        return await self.wait(within)

    def children(self) -> list[int]:
        """The processes that it has started to serve in its stead, and that still run."""
        return [pid for pid in _children_of(self.pid) if b"serve" in _read(Path(f"/proc/{pid}/cmdline"))]

    def kill(self) -> None:
        """End the process at once (SIGKILL), if it still runs; its children too."""
        children = self.children()
        self._process.kill()
        self._process.wait()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def _children_of(parent: int) -> list[int]:
    stats = {path.parent.name: _read(path) for path in Path("/proc").glob("[0-9]*/stat")}
    facts = {int(pid): text.rpartition(b")")[2].split() for pid, text in stats.items() if text}
    return sorted(pid for pid, (state, of, *_) in facts.items() if state != b"Z" and int(of) == parent)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended meanwhile
        return b""


def free_port() -> int:
    """A port of the loopback address that is free, and will be until somebody takes it on purpose.

    It is none of those that a system hands out itself (Linux: 32768 and above), to connections as well: of these, one
    that is free now may be another test's by the time it is used.
    """
    draw = random.SystemRandom()  # not the common generator: a test that seeds it would be given the same ports again
    while True:
        port = draw.randrange(15_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def service_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment, with `settings` in place of every setting of the service that it has."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QUARTERDECK_")}
    return {**inherited, **settings}


def start_service(
    directory: Path,
    *arguments: str,
    settings: Mapping[str, str] | None = None,
    cwd: Path = REPOSITORY,
    python: Path | str = sys.executable,
) -> ServeProcess:
    """Start `qd serve` with `arguments` on a free port, and return at once.

    `settings` are environment variables (`QUARTERDECK_…`). An embedded database and the log go to `directory`. `python`
    is the interpreter that runs it.
    """
    bind = f"127.0.0.1:{free_port()}"
    environment = service_environment(
        {"QUARTERDECK_BIND": bind, "QUARTERDECK_DATA_DIR": str(directory / "data"), **(settings or {})}
    )
    bind = environment["QUARTERDECK_BIND"]
    log_file = directory / f"serve-{bind.rpartition(':')[2]}.log"
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [python, "-m", "quarterdeck", "serve", *arguments],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal of the tests is not meant for it
        )
    return ServeProcess(process, f"http://{bind}", log_file)


@contextlib.contextmanager
def cleaned_up(service: ServeProcess) -> Iterator[ServeProcess]:
    """Yield `service` and make sure that it is over afterwards."""
    try:
        yield service
    finally:
        service.kill()


@contextlib.asynccontextmanager
async def running_service(
    directory: Path,
    *arguments: str,
    settings: Mapping[str, str] | None = None,
    python: Path | str = sys.executable,
) -> AsyncIterator[ServeProcess]:
    """Yield a `qd serve` that is ready; afterwards, stop it by SIGTERM unless the test has, and kill it in the end."""
    with cleaned_up(start_service(directory, *arguments, settings=settings, python=python)) as service:
        await service.wait_until_ready()
        yield service
        if service.exit_code is None:
            await service.stop()
