"""What the demo does: the files it takes, the jobs it makes of them, and what came out."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import msgspec

import quarterdeck
from quarterdeck.cli import exits
from quarterdeck.cli.exits import CommandError
from quarterdeck.domain.state import TERMINAL

KINDS = ("word_count", "checksum")
MAX_FILES = 200
MAX_BYTES = 4 * 1024 * 1024
CONCURRENCY = 16
"""Requests in flight at the same time; each waits for its job."""
WAIT = 20
"""Seconds that one request asks the service to wait for its job."""


class Source(msgspec.Struct, frozen=True):
    """Where the quickstart is, and files for it: `app` as `qd serve` takes it, the directory that it is found from."""

    app: str
    cwd: Path
    root: Path
    files: list[str]


class Done(msgspec.Struct, frozen=True):
    """A job that has completed: seconds from its submit to its result, as the client saw it."""

    kind: str
    path: str
    result: dict[str, Any]
    seconds: float


def find_source(directory: Path) -> Source:
    """This very repository where the program runs from one, else the installed package; `directory` is the demo's."""
    package = Path(quarterdeck.__file__).parent
    repository = package.parents[1]
    if (repository / "examples" / "quickstart.py").is_file():
        return Source("examples.quickstart:deck", repository, repository, list_files(repository))
    if (package / "examples" / "quickstart.py").is_file():
        return Source("quarterdeck.examples.quickstart:deck", directory, package, list_files(package))
    raise CommandError(f"examples/quickstart.py is missing in {package}: install quarterdeck anew", exits.WRONG_USAGE)


def list_files(root: Path) -> list[str]:
    """Names of files below `root`, at most MAX_FILES: those that git keeps, or else all that are not hidden."""
    chosen = (name for name in _from_git(root) or _from_walk(root) if _is_fit(root / name))
    return sorted(chosen)[:MAX_FILES]


def _from_git(root: Path) -> list[str]:
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return []
    return [name for name in listed.stdout.decode(errors="surrogateescape").split("\0") if name]


def _from_walk(root: Path) -> Iterator[str]:
    for directory, below, names in os.walk(root):
        below[:] = [name for name in below if not name.startswith((".", "__"))]
        place = Path(directory).relative_to(root)
        yield from (str(place / name) for name in names if not name.startswith("."))


def _is_fit(path: Path) -> bool:
    try:
        path.name.encode()
        return path.is_file() and not path.is_symlink() and path.stat().st_size <= MAX_BYTES
    except (OSError, UnicodeError):
        return False


async def do_work(url: str, files: Sequence[str], on_done: Callable[[Done], None]) -> list[Done]:
    """Submits a job of every kind for every file over REST, follows them all, and returns what they gave.

    Raises CommandError for a job that did not complete, or a service that does not answer.
    """
    work = iter([(kind, path) for path in files for kind in KINDS])
    done: list[Done] = []
    limits = httpx.Limits(max_connections=CONCURRENCY)
    async with httpx.AsyncClient(base_url=url, timeout=WAIT + 10, limits=limits, trust_env=False) as client:

        async def take_turns() -> None:
            for kind, path in work:
                done.append(await _follow(client, kind, path))
                on_done(done[-1])

        tasks = [asyncio.create_task(take_turns()) for _ in range(CONCURRENCY)]
        try:
            await asyncio.gather(*tasks)
        except httpx.HTTPError as error:
            raise CommandError(
                f"the demo's service does not answer: {exits.one_line(error)}", exits.NO_SERVICE
            ) from None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return done


async def _follow(client: httpx.AsyncClient, kind: str, path: str) -> Done:
    began = monotonic()
    prefer = {"Prefer": f"wait={WAIT}"}
    job = _read(await client.post("/v1/jobs", json={"kind": kind, "args": {"path": path}}, headers=prefer))
    while job["state"] not in TERMINAL:
        job = _read(await client.get(f"/v1/jobs/{job['id']}", headers=prefer))
    if job["state"] != "completed":
        last = job["errors"][-1]["message"] if job["errors"] else job["state_detail"]
        raise CommandError(f"job {job['id']} ({kind} of {path}) was {job['state']}: {last}", exits.JOB_FAILED)
    return Done(kind, path, job["result"], monotonic() - began)


def _read(answer: httpx.Response) -> dict[str, Any]:
    if not answer.is_success:
        raise CommandError(f"the demo's service answers {answer.status_code}: {answer.text[:300]}", exits.NO_SERVICE)
    job: dict[str, Any] = answer.json()
    return job


def compare_checksums(root: Path, done: Iterable[Done]) -> tuple[int, list[str]]:
    """How many checksums were computed again, here and directly, and the files where that gave another one."""
    checksums = [one for one in done if one.kind == "checksum"]
    different = [
        one.path
        for one in checksums
        if hashlib.sha256((root / one.path).read_bytes()).hexdigest() != one.result["digest"]
    ]
    return len(checksums), different
