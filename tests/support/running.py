"""A service in the test's own loop, on a database of the test's own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from quarterdeck import Quarterdeck
from quarterdeck.bootstrap import Runtime
from quarterdeck.config import Settings
from tests.support.waiting import eventually


@asynccontextmanager
async def running(database_url: str, deck: Quarterdeck | None = None, **settings: Any) -> AsyncIterator[Runtime]:
    """Start a service, wait until it holds a lease, and stop it without grace at the end."""
    runtime = Runtime(Settings(database_url=database_url, **settings), deck)
    await runtime.start()
    try:
        await eventually(lambda: worker_of(runtime))
        yield runtime
    finally:
        await runtime.stop(grace=0)


def worker_of(runtime: Runtime) -> str | None:
    """The id under which the service claims jobs just now."""
    return runtime.engine.parts.lease.worker()
