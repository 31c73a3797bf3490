"""The demo from beginning to end: start the service, do the work, check it, sum it up, stop."""

import asyncio
import contextlib
import signal
import statistics
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from quarterdeck.cli import exits
from quarterdeck.cli.demo_service import DemoDirectory, DemoService
from quarterdeck.cli.demo_web import PAGES, DemoWeb, demo_web
from quarterdeck.cli.demo_work import (
    FETCH,
    KINDS,
    Done,
    Source,
    compare_checksums,
    do_work,
    find_source,
    list_work,
)
from quarterdeck.cli.exits import CommandError


async def demonstrate(directory: DemoDirectory, *, keep: bool, quiet: bool) -> dict[str, Any]:
    """Starts a service in `directory`, has it do the work, and reports what came out.

    Raises CommandError where the service cannot start or work, or a job does not complete.
    """
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    source = find_source(directory.path)
    service = DemoService(source.app, directory=directory, cwd=source.cwd, root=source.root)
    say: Callable[[str], None] = (lambda _text: None) if quiet else (lambda text: click.echo(text, err=True))
    completed = False
    try:
        say(f"Starting a service on an embedded PostgreSQL in {directory.path} …")
        began = monotonic()
        await _start(service, say)
        started = monotonic()
        say(
            f"It answers at {service.url}. Submitting 2 jobs for each of {len(source.files)} files of {source.root},"
            f" and {PAGES} that call a web server here …"
        )
        async with demo_web() as web:
            with _progress(source, quiet=quiet) as on_done:
                done = await do_work(service.url, list_work(source.files, web.addresses()), on_done)
            seconds = monotonic() - started
            pages = _pages(web, done)
        compared, different = await asyncio.to_thread(compare_checksums, source.root, done)
        report = _summary(done, seconds)
        report |= {"start_seconds": round(started - began, 3), "checks": {"compared": compared, "different": different}}
        report["pages"] = pages
        report["service"] = _address(service) if keep else None
        completed = True
        return report
    finally:
        if not (keep and completed):
            await service.stop()


async def _start(service: DemoService, say: Callable[[str], None]) -> None:
    try:
        await service.start()
    except CommandError as error:
        if error.exit_code != exits.WRONG_SCHEMA or not service.forget_database():
            raise
        say("The database of the last demo has another schema. Starting with a new one …")
        await service.start()


def _address(service: DemoService) -> dict[str, Any]:
    return {"url": service.url, "pid": service.pid, "log": str(service.log_file)}


@contextlib.contextmanager
def _progress(source: Source, *, quiet: bool) -> Iterator[Callable[[Done], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        totals = {FETCH: PAGES, **dict.fromkeys(KINDS, len(source.files))}
        bars = {kind: progress.add_task(kind, total=total) for kind, total in totals.items()}
        yield lambda one: progress.advance(bars[one.kind])


def _summary(done: Sequence[Done], seconds: float) -> dict[str, Any]:
    kinds = {
        kind: _latency([one.seconds for one in done if one.kind == kind]) for kind in sorted({one.kind for one in done})
    }
    files: dict[str, dict[str, Any]] = {}
    for one in done:
        if one.kind == FETCH:
            continue
        facts = {"sha256": one.result["digest"]} if one.kind == "checksum" else one.result
        files.setdefault(one.path, {"path": one.path}).update(facts)
    return {
        "jobs": len(done),
        "seconds": round(seconds, 3),
        "jobs_per_second": round(len(done) / seconds, 1),
        "kinds": kinds,
        "files": [files[path] for path in sorted(files)],
    }


def _pages(web: DemoWeb, done: Sequence[Done]) -> dict[str, Any]:
    fetched = [one for one in done if one.kind == FETCH]
    wrong = [one.path for one in fetched if one.result.get("json") != web.page(one.path)]
    return {"fetched": len(fetched), "requests": web.requests, "wrong": wrong}


def _latency(seconds: Sequence[float]) -> dict[str, Any]:
    # Of two jobs and more; a single one is its own percentiles.
    cuts = statistics.quantiles(seconds, n=20, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 19
    return {"jobs": len(seconds), "p50_ms": round(cuts[9] * 1000, 1), "p95_ms": round(cuts[18] * 1000, 1)}
