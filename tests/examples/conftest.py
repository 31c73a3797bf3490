"""Examples as their readers run them: the service and each program in a process of its own."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading

import pytest

from tests.support.processes import REPOSITORY, running_service, service_environment
from tests.support.waiting import eventually


class Program:
    """A program that was started: what it prints, line by line, and what is typed into it."""

    def __init__(self, process):
        self._process = process
        self._lines = queue.Queue()
        self.printed = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))

    def type(self, line):
        """Types a line."""
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    async def prints(self, wanted, within=20):
        """Waits until there is a line for which `wanted` holds, and returns it."""
        return await self._wait(lambda: next((line for line in self.printed if wanted(line)), None), within)

    async def printed_lines(self, count, within=20):
        """Waits until there are so many lines."""
        await self._wait(lambda: len(self.printed) >= count, within)

    async def _wait(self, check, within):
        def checked():
            while not self._lines.empty():
                self.printed.append(self._lines.get())
            return check()

        try:
            return await eventually(checked, within)
        except AssertionError as error:
            raise AssertionError(f"it printed only {self.printed}, code {self._process.poll()}") from error

    async def leave(self):
        """Ends its input, and waits for its end."""
        self._process.stdin.close()
        await eventually(lambda: self._process.poll() is not None)
        return self._process.returncode

    def kill(self):
        """Ends it, and whatever it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            stream.close()


@pytest.fixture
async def serve(tmp_path, database_url):
    """Serves an example's deck on the test's database."""

    def start(app):
        return running_service(tmp_path, app, settings={"QUARTERDECK_DATABASE_URL": database_url})

    return start


@pytest.fixture
def run():
    """Runs a module beside a service: `run(service, "examples.chat.chat", "lobby", "ada")`."""
    with contextlib.ExitStack() as stack:

        def start(service, module, *arguments):
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=REPOSITORY,
                env={**service_environment({"QUARTERDECK_URL": service.url}), "NO_PROXY": "127.0.0.1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            program = Program(process)
            stack.callback(program.kill)
            return program

        yield start
