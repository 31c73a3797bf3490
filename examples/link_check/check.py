"""Checks a file of links: one job of `quarterdeck.http` for each, and a report.

qd serve
python -m examples.link_check.check examples/link_check/links.txt
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

from examples.link_check.report import Checked, of_job, summary
from quarterdeck.client import Client, Invalid, QuarterdeckClientError

SERVICE = os.environ.get("QUARTERDECK_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("QUARTERDECK_API_KEY")
AT_ONCE = 16
PATIENT: dict[str, Any] = {"timeout": "15s", "max_attempts": 3, "retry": {"backoff": [2, 10]}}
"""A server that is busy or away gets three tries, and the time that it asks for with Retry-After."""


def read_links(text: str) -> list[str]:
    """One a line; empty lines and those that begin with # say nothing, and a link that comes twice counts once."""
    lines = (line.strip() for line in text.splitlines())
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


async def check(client: Client, links: Iterable[str]) -> AsyncIterator[Checked]:
    """What became of each link, in the order in which that was known."""
    waiting = iter(links)
    found: asyncio.Queue[Checked | None] = asyncio.Queue()

    async def take_turns() -> None:
        for link in waiting:
            found.put_nowait(await check_one(client, link))

    async def take_all() -> None:
        try:
            async with asyncio.TaskGroup() as turns:
                for _ in range(AT_ONCE):
                    turns.create_task(take_turns())
        finally:
            found.put_nowait(None)

    everything = asyncio.create_task(take_all())
    try:
        while (checked := await found.get()) is not None:
            yield checked
        await everything
    finally:
        everything.cancel()


async def check_one(client: Client, link: str) -> Checked:
    """Submits the call, and waits for its end."""
    try:
        job = await client.submit("quarterdeck.http", {"url": link, "follow_redirects": True}, **PATIENT)
    except Invalid as error:  # not http, or no URL at all
        return Checked(link, "broken", "; ".join(flaw["detail"] for flaw in error.problem["errors"]))
    return of_job(link, await client.wait(job.id))


async def report(text: str) -> int:
    """Prints a line for each link of `text` and a summary; returns 1 where a link is broken."""
    checked = []
    async with Client(SERVICE, KEY) as client:
        async for one in check(client, read_links(text)):
            checked.append(one)
            print(one.line(), flush=True)
    print(f"\n{summary(checked)}")
    return 1 if any(one.verdict == "broken" for one in checked) else 0


def main(arguments: Sequence[str]) -> int:
    """Reads the file, and checks its links."""
    if len(arguments) != 1:
        print("usage: python -m examples.link_check.check FILE", file=sys.stderr)
        return 2
    try:
        text = Path(arguments[0]).read_text()
    except OSError as error:
        print(f"{arguments[0]}: {error.strerror}", file=sys.stderr)
        return 2
    code = 3
    try:
        code = asyncio.run(report(text))
    except* QuarterdeckClientError as failures:  # each of those that took turns may have met it
        print(failures.exceptions[0], file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
