"""A replica: `qd serve` in a process of its own, on a port and behind a link that stay its own over all its lives."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from tests.soak.history import Process
from tests.soak.load import Door
from tests.soak.schedule import Way
from tests.support.faults.control import Count, ProxyProcess, SwitchOff, SwitchOn
from tests.support.faults.control import Reset as ResetAll
from tests.support.faults.rules import BlackHole, Delay, LoseReply, Refuse
from tests.support.processes import ServeProcess, free_port, start_service

APP = "tests.soak.deck:deck"
EXIT_WITHIN = 60.0
"""Seconds after which a process that was told to end is killed; the bar is far below."""
LOOK = 0.02
REFUSED_AS = "53300"
"""Too many connections."""


class Link(Protocol):
    """The way of a replica to the database, on which things go wrong when told."""

    @property
    def dsn(self) -> str:
        """The database by this way."""

    async def black_hole(self, way: Way, seconds: float, application: str) -> None:
        """Swallows what comes on the connections of an application, for so long."""

    async def lose_replies(self, share: float, seconds: float) -> None:
        """Loses replies of statements that were executed, for so long."""

    async def delay(self, seconds: float) -> None:
        """Makes everything slow, for so long."""

    async def refuse(self, seconds: float) -> None:
        """Refuses new connections, for so long."""

    async def reset(self) -> None:
        """Resets every connection that is open."""

    async def injected(self) -> dict[str, int]:
        """What it did, and how often."""


class ProxiedLink:
    """A link through a proxy in a process of its own."""

    def __init__(self, proxy: ProxyProcess) -> None:
        self._proxy = proxy
        self._turn = asyncio.Lock()

    @property
    def dsn(self) -> str:
        """The database by way of the proxy."""
        return self._proxy.dsn

    async def black_hole(self, way: Way, seconds: float, application: str) -> None:
        """Swallows what comes on the connections of an application, for so long."""
        fault = BlackHole(
            application=application,
            to_server=way != "to_client",
            to_client=way != "to_server",
            unread=way == "unread",
        )
        await self._with(fault, seconds)

    async def lose_replies(self, share: float, seconds: float) -> None:
        """Loses replies, ending the connection by a close."""
        await self._with(LoseReply(probability=share), seconds)

    async def delay(self, seconds: float) -> None:
        """Makes every answer up to 0.1 s late."""
        await self._with(Delay(to_client=0.02, jitter=0.08), seconds)

    async def refuse(self, seconds: float) -> None:
        """Refuses every other new connection, as a server without room does."""
        await self._with(Refuse(sqlstate=REFUSED_AS, probability=0.5), seconds)

    async def reset(self) -> None:
        """Resets every connection that is open."""
        await self._tell(ResetAll())

    async def injected(self) -> dict[str, int]:
        """What it did, and how often."""
        answer = await self._tell(Count())
        return dict(answer["injected"])

    async def _with(self, fault: BlackHole | LoseReply | Delay | Refuse, seconds: float) -> None:
        switch = int((await self._tell(SwitchOn(fault)))["switch"])
        try:
            await asyncio.sleep(seconds)
        finally:
            await self._tell(SwitchOff(switch))

    async def _tell(self, command: SwitchOn | SwitchOff | ResetAll | Count) -> dict[str, Any]:
        async with self._turn:
            return await self._proxy.tell(command)


@asynccontextmanager
async def proxied_link(dsn: str, seed: int) -> AsyncIterator[ProxiedLink]:
    """A link to the database of `dsn`, for as long as it is needed."""
    async with ProxyProcess(dsn, seed=seed) as proxy:
        yield ProxiedLink(proxy)


class Replica:
    """Starts, loses and ends its process, and keeps the account of its lives."""

    def __init__(self, number: int, directory: Path, link: Link, settings: dict[str, str]) -> None:
        bind = f"127.0.0.1:{free_port()}"
        self.number = number
        self.link = link
        self.lives: list[Process] = []
        self.door = Door(f"http://{bind}")
        self.turn = asyncio.Lock()
        """Held by the fault that is at work on it: one at a time."""
        self._directory = directory
        self._settings = {
            "QUARTERDECK_BIND": bind,
            "QUARTERDECK_DATABASE_URL": link.dsn,
            "QUARTERDECK_LOG_FORMAT": "json",
            **settings,
        }
        self._service: ServeProcess | None = None
        self._stopped = False

    @property
    def pid(self) -> int:
        """The process of its present life."""
        return self.lives[-1].pid

    @property
    def up(self) -> bool:
        """Whether it has a process."""
        return self._service is not None and self._service.exit_code is None

    async def start(self) -> None:
        """Begins a life and waits until it is ready. Raises AssertionError where it is not within half a minute."""
        began = time.monotonic_ns()
        self._service = start_service(self._directory, APP, settings=self._settings)
        self.lives.append(Process(replica=self.number, pid=self._service.pid, began_at=began))
        try:
            await self._service.wait_until_ready()
        except AssertionError:
            self.look()
            raise
        self.door.open = True

    def kill(self) -> None:
        """SIGKILL, and its end."""
        service, life = self._present()
        self.door.open = False
        life.asked_at = time.monotonic_ns()
        service.kill()
        self._over(life, "kill", service.exit_code)

    def stop(self) -> None:
        """SIGSTOP: it stands still from now on."""
        self.door.open = False
        self._stopped = True
        self._present()[0].send(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self._stopped = False
        self._present()[0].send(signal.SIGCONT)
        self.door.open = True

    async def end(self) -> float:
        """SIGTERM, and its end, which comes by SIGKILL where it does not come by itself; returns the seconds."""
        service, life = self._present()
        life.asked_at = time.monotonic_ns()
        service.send(signal.SIGTERM)
        deadline = time.monotonic() + EXIT_WITHIN
        while service.exit_code is None and time.monotonic() < deadline:  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(LOOK)
        self.door.open = False
        if service.exit_code is None:
            service.kill()
        self._over(life, "term", service.exit_code)
        return (time.monotonic_ns() - life.asked_at) / 1e9

    def look(self) -> bool:
        """Notes the end of a process that nobody asked to end; says whether there was one."""
        if self._service is None or self._service.exit_code is None or self.lives[-1].ended_at is not None:
            return False
        self.door.open = False
        self._over(self.lives[-1], "by itself", self._service.exit_code)
        return True

    def clean_up(self) -> None:
        """Whatever it does now, it is over."""
        if self._service is not None:
            self._service.kill()

    def log(self) -> str:
        """All that its processes wrote."""
        return "" if self._service is None else self._service.log()

    def _over(self, life: Process, how: str, code: int | None) -> None:
        life.ended_at = time.monotonic_ns()
        life.exit_code = code
        life.how = "kill" if how == "kill" else "term" if how == "term" else "by itself"

    def _present(self) -> tuple[ServeProcess, Process]:
        if self._service is None:
            raise RuntimeError(f"replica {self.number} was never started")
        return self._service, self.lives[-1]
