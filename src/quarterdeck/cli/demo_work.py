"""What the demo does: the files it takes, the jobs it makes of them, and what came out."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

import quarterdeck
from quarterdeck.cli import exits
from quarterdeck.cli.exits import CommandError
from quarterdeck.client import Client, Event, Gap, QuarterdeckClientError, Watch

KINDS = ("word_count", "checksum")
"""Kinds of the quickstart, with a job for each file."""
FETCH = "quarterdeck.http"
SOON = {"backoff": "fixed", "base": 0.1}
MAX_FILES = 200
MAX_BYTES = 4 * 1024 * 1024
CONCURRENCY = 16
"""Jobs that are under way at the same time."""
PATIENCE = 20.0
"""Seconds that a service may be gone."""


class Source(msgspec.Struct, frozen=True):
    """Where the quickstart is, and files for it: `app` as `qd serve` takes it, the directory that it is found from."""

    app: str
    cwd: Path
    root: Path
    files: list[str]


class Work(msgspec.Struct, frozen=True):
    """A job to be done: `path` is the file it is about, or the address."""

    kind: str
    path: str
    args: dict[str, Any]
    options: dict[str, Any] = {}


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
    if (repository / "examples" / "quickstart" / "app.py").is_file():
        return Source("examples.quickstart.app:deck", repository, repository, list_files(repository))
    if (package / "examples" / "quickstart" / "app.py").is_file():
        return Source("quarterdeck.examples.quickstart.app:deck", directory, package, list_files(package))
    raise CommandError(f"examples/quickstart is missing in {package}: install quarterdeck anew", exits.WRONG_USAGE)


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


def list_work(files: Sequence[str], addresses: Sequence[str]) -> list[Work]:
    """A call of every address, then a job of every kind for every file."""
    calls = [Work(FETCH, address, {"url": address}, {"retry": SOON}) for address in addresses]
    return calls + [Work(kind, path, {"path": path}) for path in files for kind in KINDS]


async def do_work(url: str, work: Sequence[Work], on_done: Callable[[Done], None]) -> list[Done]:
    """Submits all jobs over REST, follows them live, and returns what they gave.

    Raises CommandError for a job that did not complete, or a service that does not answer.
    """
    waiting = iter(work)
    tag = f"demo-{uuid.uuid4().hex}"
    done: list[Done] = []
    ends = _Ends()
    try:
        async with Client(url, patience=PATIENCE, outlast=PATIENCE) as client, client.watch(tag=tag) as events:

            async def take_turns() -> None:
                for one in waiting:
                    began = monotonic()
                    job = await client.submit(one.kind, one.args, tags=[tag], **one.options)
                    result = _result(await ends[job.id], one.kind, one.path)
                    done.append(Done(one.kind, one.path, result, monotonic() - began))
                    on_done(done[-1])

            turns = asyncio.gather(*(take_turns() for _ in range(CONCURRENCY)))
            reading = asyncio.ensure_future(ends.read(events))
            try:
                await asyncio.wait((turns, reading), return_when=asyncio.FIRST_COMPLETED)
                await (turns if turns.done() else reading)
            finally:
                turns.cancel()
                reading.cancel()
                await asyncio.gather(turns, reading, return_exceptions=True)
    except QuarterdeckClientError as error:
        raise CommandError(f"the demo's service does not answer: {exits.one_line(error)}", exits.NO_SERVICE) from None
    return done


class _Ends(dict[uuid.UUID, "asyncio.Future[Event]"]):
    """The events that end jobs, by job: those that have come, and those that somebody waits for."""

    def __missing__(self, job_id: uuid.UUID) -> asyncio.Future[Event]:
        self[job_id] = asyncio.get_running_loop().create_future()
        return self[job_id]

    async def read(self, events: Watch[Event | Gap]) -> None:
        """Takes them as they come, for ever."""
        async for event in events:
            if isinstance(event, Gap):
                raise CommandError("the demo's service has lost sight of the demo's jobs", exits.NO_SERVICE)
            if event.ends:
                self[event.job_id].set_result(event)


def _result(event: Event, kind: str, path: str) -> dict[str, Any]:
    if event.event != "job.completed":
        last = event.data.get("error", {}).get("message") or event.data.get("state_detail")
        how = event.event.removeprefix("job.")
        raise CommandError(f"job {event.job_id} ({kind} of {path}) was {how}: {last}", exits.JOB_FAILED)
    result: dict[str, Any] = event.data["result"]
    return result


def compare_checksums(root: Path, done: Iterable[Done]) -> tuple[int, list[str]]:
    """How many checksums were computed again, here and directly, and the files where that gave another one."""
    checksums = [one for one in done if one.kind == "checksum"]
    different = [
        one.path
        for one in checksums
        if hashlib.sha256((root / one.path).read_bytes()).hexdigest() != one.result["digest"]
    ]
    return len(checksums), different
