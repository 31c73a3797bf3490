"""Handlers whose running a test can see and steer, for services in processes of their own."""

import asyncio
import os
import signal
import time
from pathlib import Path

from quarterdeck import Quarterdeck

deck = Quarterdeck()


def exists(path: str) -> bool:
    """Whether the test says to go on."""
    return Path(path).exists()


def begun(path: str) -> None:
    """Tell the test that the job runs."""
    Path(path).touch()


@deck.handler()
async def gate(path: str) -> int:
    """Run until there is a file at `path`; return the process that ran it."""
    while not exists(path):  # noqa: ASYNC110 (nothing else can reach into this process)
        await asyncio.sleep(0.02)
    return os.getpid()


@deck.handler()
async def turn() -> int:
    """Take a moment; return the process that ran it."""
    await asyncio.sleep(0.05)
    return os.getpid()


@deck.handler()
async def pause(seconds: float) -> int:
    """Take a while; return the process that ran it."""
    await asyncio.sleep(seconds)
    return os.getpid()


@deck.handler()
async def kill_process() -> None:
    """Take the whole process along."""
    os.kill(os.getpid(), signal.SIGKILL)


@deck.handler(max_attempts=1)
async def fail() -> None:
    """Fail, with a text that a terminal would obey."""
    raise ValueError("no \x1b[2J")


@deck.handler()
async def block_loop(path: str) -> None:
    """Stop everything else in the process, as no handler should."""
    begun(path)
    time.sleep(600)  # noqa: ASYNC251 (that is its purpose)


@deck.handler()
async def block_thread(path: str) -> None:
    """Hold a thread of the loop's pool for longer than any test."""
    begun(path)
    await asyncio.to_thread(time.sleep, 600)


@deck.handler()
async def resist(path: str) -> None:
    """Ignore every cancel."""
    begun(path)
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            continue
