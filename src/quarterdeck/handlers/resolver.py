"""Resolver: looks host names up without holding up anything else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Protocol

AT_ONCE = 32
"""Look-ups under way at the same time; the others wait for their turn."""


class Resolve(Protocol):
    """How a host becomes addresses."""

    async def __call__(self, host: str, port: int) -> list[str]:
        """Every address of `host`, in the order they should be tried. Raises OSError."""


class Resolver:
    """The system's own look-up, each in a daemon thread.

    Not in the event loop's executor: a name server that is silent for half a minute would take the few threads that
    everything else shares, and hold up the end of the process.
    """

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, host: str, port: int) -> list[str]:
        """Every address of `host`. Raises OSError. A look-up that nobody waits for any more goes on to its end."""
        await self._turns.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def over(found: list[str] | None, error: Exception | None) -> None:
            self._turns.release()
            if answer.cancelled():
                return
            if found is not None:
                answer.set_result(found)
            else:
                answer.set_exception(error or OSError("no answer"))

        def look_up() -> None:
            found: list[str] | None = None
            failure: Exception | None = None
            try:
                # As bytes: the codec for names that are not ASCII refuses what the system would.
                infos = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
                found = list(dict.fromkeys(str(info[4][0]) for info in infos))
            except Exception as error:  # noqa: BLE001 - told to whoever waits
                failure = error if isinstance(error, OSError) else OSError(str(error))
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(over, found, failure)

        try:
            threading.Thread(target=look_up, name="quarterdeck-look-up", daemon=True).start()
        except RuntimeError as error:  # no more threads
            self._turns.release()
            raise OSError(str(error)) from None
        return await answer
