"""Commands to a proxy in a process of its own, and that process."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, Self

import msgspec

from tests.support.faults.proxy import FaultyProxy
from tests.support.faults.rules import AnyFault, Switch

REPOSITORY = Path(__file__).parents[3]
PATIENCE = 20.0
"""Seconds that a command may take, the start included."""


class SwitchOn(msgspec.Struct, frozen=True, tag="on"):
    """Switches a fault on; answers `{"switch": n}`."""

    fault: AnyFault


class SwitchOff(msgspec.Struct, frozen=True, tag="off"):
    """Switches off what was switched on as `switch`."""

    switch: int


class Heal(msgspec.Struct, frozen=True, tag="heal"):
    """Switches every fault off and takes connections."""


class Reset(msgspec.Struct, frozen=True, tag="reset"):
    """Resets the connections of an application; answers `{"reset": how many}`."""

    application: str = ""


class Silence(msgspec.Struct, frozen=True, tag="silence"):
    """Leaves the connections of an application half-open; answers `{"silence": how many}`."""

    application: str = ""


class Shut(msgspec.Struct, frozen=True, tag="shut"):
    """Refuses connections until `heal`."""


class Count(msgspec.Struct, frozen=True, tag="count"):
    """Answers `{"injected": {fault: how often}, "connections": [application, …]}`."""


Command = SwitchOn | SwitchOff | Heal | Reset | Silence | Shut | Count


class Control:
    """Obeys commands."""

    def __init__(self, proxy: FaultyProxy) -> None:
        self._proxy = proxy
        self._switches: list[Switch] = []

    async def obey(self, command: Command) -> dict[str, Any]:
        """Does as it is told and says what came of it. Raises LookupError for a switch that never was."""
        match command:
            case SwitchOn(fault):
                self._switches.append(self._proxy.switch_on(fault))
                return {"switch": len(self._switches) - 1}
            case SwitchOff(switch):
                self._switches[switch].off()
                return {"hits": self._switches[switch].hits}
            case Heal():
                self._proxy.heal()
                await self._proxy.open()
            case Reset(application):
                return {"reset": self._proxy.reset(application)}
            case Silence(application):
                return {"silence": self._proxy.silence(application)}
            case Shut():
                await self._proxy.shut()
            case Count():
                return {"injected": self._proxy.faults.injected, "connections": self._proxy.connections}
        return {}


class ProxyProcess:
    """A proxy that shares nothing with the test's own loop, so that what it does there takes no time here.

    async with ProxyProcess(database_url, seed=7) as proxy:
        await proxy.tell(SwitchOn(LoseReply(probability=0.2)))
    """

    def __init__(self, upstream: str, *, seed: int = 0, port: int = 0) -> None:
        self.dsn = ""
        self._arguments = ["--upstream", upstream, "--seed", str(seed), "--port", str(port)]
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.faults",
            *self._arguments,
            cwd=REPOSITORY,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal of the tests is not meant for it
        )
        try:
            self.dsn = (await self._answer())["dsn"]
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def tell(self, command: Command) -> dict[str, Any]:
        """Gives a command and returns its answer. Raises RuntimeError where it was refused, or the process is over."""
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("the proxy was not started")
        self._process.stdin.write(msgspec.json.encode(command) + b"\n")
        return await self._answer()

    async def _answer(self) -> dict[str, Any]:
        if self._process is None or self._process.stdout is None:
            raise RuntimeError("the proxy was not started")
        async with asyncio.timeout(PATIENCE):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the proxy has ended")
        answer = msgspec.json.decode(line, type=dict[str, Any])
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer
