"""Quarterdeck in one file: two kinds of jobs that read files.

Run it from the directory whose files it may read, in two terminals:

    qd serve examples.quickstart.app:deck

    qd submit word_count path=README.md --wait
    curl -H 'Content-Type: application/json' -H 'Prefer: wait=5' http://127.0.0.1:8000/v1/jobs \
         -d '{"kind": "checksum", "args": {"path": "README.md", "algorithm": "md5"}}'
"""

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any, Literal

from quarterdeck import Cancel, JobContext, Quarterdeck

# A deck holds an application's handlers. Making it does nothing yet: `qd serve` runs it.
deck = Quarterdeck()

# What handlers need is put here once, and found in every job as `ctx.resources`.
deck.resources["root"] = Path(os.environ.get("QUICKSTART_ROOT", ".")).resolve()


# The function's name is the kind, and its signature says which arguments a job may have: others are refused when the
# job is submitted. `ctx` is passed only where it is asked for, and is no argument of the job.
@deck.handler(timeout="30s", max_attempts=3)
async def word_count(ctx: JobContext, path: str) -> dict[str, Any] | Cancel:
    """Counts the lines, words and bytes of a file below the root."""
    file = locate(ctx, path)
    if file is None:
        return Cancel(f"{path} is not below the root")  # ends the job; an exception would have it tried again
    # Handlers share one event loop: what blocks, like reading a file, goes into a thread.
    return {"path": path, **await asyncio.to_thread(count, file)}


@deck.handler(timeout="30s", max_attempts=3)
async def checksum(
    ctx: JobContext, path: str, algorithm: Literal["sha256", "sha512", "blake2b", "md5"] = "sha256"
) -> dict[str, Any] | Cancel:
    """Computes the checksum of a file below the root."""
    file = locate(ctx, path)
    if file is None:
        return Cancel(f"{path} is not below the root")
    return {"path": path, "algorithm": algorithm, "digest": await asyncio.to_thread(digest, file, algorithm)}


def locate(ctx: JobContext, path: str) -> Path | None:
    """The file at `path` below the root; None where `path` leads out of it, by `..`, a link, or from the start."""
    root: Path = ctx.resources["root"]
    file = (root / path).resolve()
    return file if file.is_relative_to(root) else None


def count(file: Path) -> dict[str, int]:
    """Lines, words and bytes, as `wc` counts them but for a last line without an end, which is a line too."""
    lines = words = size = 0
    with file.open("rb") as content:
        for line in content:
            lines, words, size = lines + 1, words + len(line.split()), size + len(line)
    return {"lines": lines, "words": words, "bytes": size}


def digest(file: Path, algorithm: str) -> str:
    """The checksum in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, algorithm).hexdigest()
