"""What a shell completes from the service: kinds, queues, ids of jobs. Quick, and silent whatever goes wrong.

Somebody waits at a prompt: one request with its own small client, because the one of the commands takes as long to
import as the service to answer.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import click

from quarterdeck.cli.destination import Destination

if TYPE_CHECKING:
    from http.client import HTTPConnection

    from click.shell_completion import CompletionItem

Suggest = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]

PATIENCE = 1.0
"""Seconds that a completion waits for the service, all in all."""
MOST_BYTES = 8 * 2**20
MOST = 200
MOST_JOBS = 50

# A shell takes these words apart again: only what a name can be is handed to it.
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")


def kinds(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Kinds that the service knows."""
    return _suggested(ctx, incomplete, f"/v1/kinds?limit={MOST}", "name", "live workers: {live}")


def queues(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Queues that were set or have unfinished jobs."""
    return _suggested(ctx, incomplete, f"/v1/queues?limit={MOST}", "name", "")


def jobs_in(*states: str) -> Suggest:
    """The latest jobs that are in one of these states, or in any."""
    query = urlencode([("limit", MOST_JOBS), *(("state", state) for state in states)])

    def suggest(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _suggested(ctx, incomplete, f"/v1/jobs?{query}", "id", "{state} {kind}")

    return suggest


def _suggested(ctx: click.Context, incomplete: str, path: str, member: str, about: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - only a completion needs it

    found: list[CompletionItem] = []

    def ask() -> None:
        with suppress(Exception):
            for item in _items(Destination.of(ctx.params.get("url"), ctx.params.get("api_key")), path):
                word, words = item[member], about.format_map(item)
                if _WORD.fullmatch(word) and word.startswith(incomplete) and words.isprintable():
                    found.append(CompletionItem(word, help=words or None))

    # A thread, because neither looking a name up nor a server that drips has a limit of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return list(found)


def _items(service: Destination, path: str) -> list[dict[str, Any]]:
    parts = urlsplit(service.url)
    headers = {"Accept": "application/json"}
    if service.api_key:
        headers["Authorization"] = f"Bearer {service.api_key}"
    with closing(_connection(parts.scheme, parts.hostname or "", parts.port)) as connection:
        connection.request("GET", parts.path + path, headers=headers)
        items: list[dict[str, Any]] = json.loads(connection.getresponse().read(MOST_BYTES))["items"]
    return items


def _connection(scheme: str, host: str, port: int | None) -> HTTPConnection:
    from http import client  # noqa: PLC0415 - only a completion needs it

    kind = client.HTTPSConnection if scheme == "https" else client.HTTPConnection
    return kind(host, port, timeout=PATIENCE)
