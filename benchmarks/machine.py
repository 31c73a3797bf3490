"""Machine: the facts without which a figure says nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import msgspec

from benchmarks.bench import Bench
from quarterdeck import __version__

_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "wal_sync_method")
_PAGE = b"\0" * 8192
_WRITES = 30


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where it was measured. `sync_ms` is the median of a synced 8 KiB write, which every commit waits for."""

    system: str
    processor: str
    cores: int
    python: str
    loop: str
    postgresql: str
    settings: dict[str, str]
    asyncpg: str
    quarterdeck: str
    sync_ms: float


async def look(bench: Bench) -> Machine:
    """The facts of this machine and of the bench's server."""
    settings = {name: str(await bench.one.fetchval(f"show {name}")) for name in _SETTINGS}
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=_processor(),
        cores=_cores(),
        python=platform.python_version(),
        loop=type(asyncio.get_running_loop()).__module__.partition(".")[0],
        postgresql=str(await bench.one.fetchval("show server_version")),
        settings=settings,
        asyncpg=version("asyncpg"),
        quarterdeck=__version__,
        sync_ms=round(await asyncio.to_thread(_sync_ms, bench.directory), 3),
    )


def _cores() -> int:
    """Those this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or "unknown"


def _sync_ms(directory: Path) -> float:
    sync = getattr(os, "fdatasync", os.fsync)
    took = []
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(_PAGE)
        file.flush()
        for _ in range(_WRITES):
            begun = time.perf_counter()
            os.pwrite(file.fileno(), _PAGE, 0)
            sync(file.fileno())
            took.append(time.perf_counter() - begun)
    return statistics.median(took) * 1000
