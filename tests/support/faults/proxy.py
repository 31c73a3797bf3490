"""FaultyProxy: a way to a PostgreSQL server on which things go wrong when a test says so."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from tests.support.faults.connection import Link, Streams
from tests.support.faults.rules import AnyFault, Faults, Switch

HERE = "127.0.0.1"


class FaultyProxy:
    """Listens on a TCP port of this machine and passes connections on to the server of a DSN.

        async with FaultyProxy(database_url, seed=7) as proxy:
            switch = proxy.switch_on(LoseReply(statement=SQL["finish_jobs"], times=3))
            ... connect to proxy.dsn ...
            assert switch.hits == 3

    It ends connections, not packets: keepalive and TCP_USER_TIMEOUT of its clients never see anything wrong, only their
    own time limits do. The server must not insist on encryption.
    """

    def __init__(self, upstream: str, *, seed: int = 0, port: int = 0) -> None:
        self.faults = Faults(seed)
        self._upstream = urlsplit(upstream)
        self._port = port
        self._names: dict[int, str] = {}
        self._links: dict[asyncio.Task[None], Link] = {}
        self._server: asyncio.Server | None = None
        self._reservation: socket.socket | None = None
        self._broken: list[BaseException] = []

    async def __aenter__(self) -> Self:
        # Bound and not listening, it keeps the port ours while nobody listens there.
        self._reservation = _bound(self._port)
        self._port = self._reservation.getsockname()[1]
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shut()
        self.faults.clear()
        tasks = list(self._links)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._reservation is not None:
            self._reservation.close()
        if self._broken:
            raise RuntimeError("the proxy itself failed") from self._broken[0]

    @property
    def dsn(self) -> str:
        """The same database, by way of the proxy."""
        options = [(name, value) for name, value in parse_qsl(self._upstream.query) if name not in ("host", "port")]
        user = self._upstream.netloc.rpartition("@")[0]
        netloc = f"{user}@{HERE}:{self._port}" if user else f"{HERE}:{self._port}"
        return urlunsplit(("postgresql", netloc, self._upstream.path, urlencode(options), ""))

    @property
    def connections(self) -> list[str]:
        """The application names of the connections that are open."""
        return sorted(link.application for link in self._links.values())

    def switch_on(self, fault: AnyFault) -> Switch:
        """From now on this goes wrong, until it is switched off."""
        return self.faults.add(fault)

    def heal(self) -> None:
        """Switches every fault off."""
        self.faults.clear()

    def reset(self, application: str = "") -> int:
        """Resets every connection of that application; says how many."""
        return self._each(application, "reset", lambda link: link.cut(reset=True))

    def silence(self, application: str = "") -> int:
        """Leaves every connection of that application half-open: silent both ways for good; says how many."""
        return self._each(application, "silence", Link.silence)

    def _each(self, application: str, what: str, do: Callable[[Link], None]) -> int:
        links = [link for link in self._links.values() if application in link.application]
        for link in links:
            do(link)
        self.faults.injected[what] += len(links)
        return len(links)

    async def shut(self) -> None:
        """Refuses connections, as a server that is down does; those that are open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def open(self) -> None:
        """Takes connections again, on the same port."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, sock=_bound(self._port))

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link((reader, writer), self._connect, self.faults, self._names)
        task = asyncio.create_task(link.run())
        self._links[task] = link
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._links.pop(task).cut()  # a task that was cancelled before it began has closed nothing
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken.append(error)

    async def _connect(self) -> Streams:
        options = dict(parse_qsl(self._upstream.query))
        host = options.get("host", self._upstream.hostname or HERE)
        port = int(options.get("port", self._upstream.port or 5432))
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    with suppress(OSError):  # some systems allow it for servers only
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((HERE, port))
    return bound
