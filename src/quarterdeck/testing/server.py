"""database_server: where the databases of tests come from."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from quarterdeck.store.embedded import EmbeddedPostgres
from quarterdeck.store.throwaway import Throwaway

FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",  # a copy of a database writes no log
    "max_wal_senders": "0",
    "max_wal_size": "1GB",
    "autovacuum": "off",
}
"""Nothing of a test has to survive a power cut."""

MEMORY = Path("/dev/shm")  # noqa: S108 - a directory with a name of its own is made there
ROOM = 2 * 2**30
"""Bytes that must be free in memory for the server to live there: its log alone may grow to half of it."""

AFTERWARDS = """
cat
file="$1/postgres/cluster/postmaster.pid"
if read -r pid < "$file"; then kill -QUIT "$pid"; fi
tries=0
while [ -e "$file" ] && [ "$tries" -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
rm -rf -- "$1"
"""
"""Waits until whoever has the other end of its input is gone, which then was killed: ends the server, removes $1."""


class DatabaseServer:
    """A PostgreSQL server for tests. `url` leads to it."""

    def __init__(self, url: str, throwaway: Throwaway) -> None:
        self.url = url
        self._throwaway = throwaway

    @asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """The URL of a database, migrated and empty, that is dropped in the end."""
        url = await self._throwaway.create()
        try:
            yield url
        finally:
            await self._throwaway.drop(url)


@contextmanager
def database_server(url: str | None = None) -> Iterator[DatabaseServer]:
    """A server for the tests of one run: an embedded one in a temporary directory, or the one that `url` names.

    The directory is in memory where there is room. It goes, and its server, also where the test run is killed. `url` is
    that of any database, for a role that may create databases: each test gets one of its own, and what is there already
    is not touched. It is a plain context manager and runs in an event loop of its own, so that a fixture with the scope
    of the session can hold it while each test has its own loop.

    Raises EmbeddedError, MigrationError, and what asyncpg raises where `url` cannot be used.
    """
    if url is not None:
        with _opened(url) as server:
            yield server
        return
    with _directory() as directory:
        postgres = EmbeddedPostgres(directory / "postgres", settings=FAST)
        _run(postgres.start)
        try:
            with _opened(postgres.dsn()) as server:
                yield server
        finally:
            _run(postgres.stop)


@contextmanager
def _directory() -> Iterator[Path]:
    # A short path: a Unix socket's is limited to some 100 bytes.
    with tempfile.TemporaryDirectory(prefix="qd-", dir=_memory(), ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)  # started by root, the server runs as another user, who must pass
        with subprocess.Popen(
            ["/bin/sh", "-c", AFTERWARDS, "sh", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is for the tests
        ) as afterwards:
            try:
                yield Path(name)
            finally:
                afterwards.kill()  # not told by the end of its input: a fork of the tests may have that open, too


def _memory() -> str | None:
    """A file system in memory with room for the server, or None for the usual temporary directory."""
    try:
        roomy = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM
    except OSError:
        return None
    return str(MEMORY) if roomy else None


@contextmanager
def _opened(url: str) -> Iterator[DatabaseServer]:
    throwaway = Throwaway(url)
    _run(throwaway.open)
    try:
        yield DatabaseServer(url, throwaway)
    finally:
        _run(throwaway.close)


def _run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs it to its end in a thread: here a loop may be running already."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(work())).result()
