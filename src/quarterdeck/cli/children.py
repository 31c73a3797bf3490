"""ChildProcess: one of several processes of a service, as its parent sees it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from time import monotonic
from typing import Self

from quarterdeck.cli.child import HURRY, LEAVING, READY, STOP, VARIABLE
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)


class ChildProcess:
    """A child: the same command as this process was started by, afresh, with the listening socket."""

    def __init__(
        self, process: asyncio.subprocess.Process, told: asyncio.StreamReader, orders: asyncio.StreamWriter
    ) -> None:
        self.pid = process.pid
        self._process = process
        self._told = told
        self._orders = orders
        self._ready_at: float | None = None
        self._begun = asyncio.Event()
        self._leaving = asyncio.Event()
        self._over = asyncio.Event()
        self._watching = [
            asyncio.create_task(self._listen(), name=f"child {self.pid} tells"),
            asyncio.create_task(self._wait(), name=f"child {self.pid} ends"),
        ]

    @classmethod
    async def start(cls, listener: socket.socket) -> Self:
        """Starts a child. Raises OSError where the system has no room for one."""
        ours, theirs = socket.socketpair()
        told, orders = await asyncio.open_connection(sock=ours)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *sys.orig_argv[1:],
                env={**os.environ, VARIABLE: f"{listener.fileno()},{theirs.fileno()}"},
                pass_fds=(listener.fileno(), theirs.fileno()),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C is for the parent, which asks its children once
            )
        except BaseException:
            orders.close()
            raise
        finally:
            theirs.close()
        log.info("process.started", pid=process.pid)
        return cls(process, told, orders)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; the negative signal number where a signal ended it."""
        return self._process.returncode

    @property
    def serves(self) -> bool:
        """Whether it answers requests and means to go on."""
        return self._ready_at is not None and not self._leaving.is_set()

    @property
    def served(self) -> float:
        """Seconds since it was ready."""
        return 0.0 if self._ready_at is None else monotonic() - self._ready_at

    async def begins(self, timeout: float) -> bool:
        """Waits until it serves; False where it ended, or was told to stop, before. After `timeout` it is killed."""
        try:
            async with asyncio.timeout(timeout):
                await self._begun.wait()
        except TimeoutError:
            log.warning("process.stuck", pid=self.pid)
            self.kill()
        if self._ready_at is None:
            await self.ends()
        return self._ready_at is not None

    async def leaves(self) -> None:
        """Waits until it has begun to stop, for whatever reason, or is over."""
        await self._leaving.wait()

    async def ends(self) -> None:
        """Waits until it is over."""
        await self._over.wait()

    def stop(self, *, hurry: bool = False) -> None:
        """Asks it to stop, and does not wait; with `hurry`, without a grace period."""
        if not self._orders.is_closing():
            self._orders.write(HURRY if hurry else STOP)

    def kill(self) -> None:
        """Ends it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _listen(self) -> None:
        with contextlib.suppress(OSError):
            async for said in self._told:
                if said == READY:
                    self._ready_at = monotonic()
                    log.info("process.ready", pid=self.pid)
                elif said == LEAVING:
                    self._leaving.set()
                self._begun.set()
        self._orders.close()

    async def _wait(self) -> None:
        code = await self._process.wait()
        tell = log.info if code == 0 else log.error
        if code < 0:
            tell("process.ended", pid=self.pid, signal=signal.strsignal(-code) or -code)
        else:
            tell("process.ended", pid=self.pid, exit_code=code)
        self._leaving.set()
        self._begun.set()
        self._over.set()
