"""`python -m benchmarks.list_pages`: how long a page of `GET /v1/jobs` takes on a long history, for every filter."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import itertools
import math
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from benchmarks.bench import Bench, opened
from quarterdeck.domain.listing import DEFAULT_LIMIT, MAX_LIMIT, JobFilter
from quarterdeck.domain.state import State
from quarterdeck.store import pool
from quarterdeck.store.job_list import JobListStore
from quarterdeck.telemetry import log

BAR_MS = 50.0
TENANT = "default"
WAITING = 100_000
WORKFLOW = uuid.UUID(int=1)
SEED_TIMEOUT = 600.0

PARTITIONS = "select quarterdeck.ensure_partitions(now() - make_interval(days => $1), now() + interval '14 days')"
# Evenly over the days up to now; ids in the order of their times, as the service makes them.
_COLUMNS = """
    (lpad(to_hex((date_part('epoch', at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0') || '8'
      || lpad(to_hex(n), 15, '0'))::uuid as id,
    'queue-' || n % 7 as queue, case when n % 10 = 0 then 'other' else 'default' end as tenant,
    case when n % 1000000 = 17 then 'rare' else 'kind-' || n % 5 end as kind,
    jsonb_build_object('customer', n % 1000, 'path', 'files/' || n) as args, at as created_at, at as run_at,
    case when n % 100000 = 3 then array['rare', 'a'] when n % 2 = 0 then array['a'] else '{}' end as tags,
    case when n % 1000 = 1 then '00000000-0000-0000-0000-000000000001'::uuid end as workflow_id,
    quarterdeck.entry(1, 'submitted', '{"state":"available"}') || quarterdeck.entry(2, 'started', '{"attempt":1}')
      as timeline
"""
SEED_HISTORY = f"""
    insert into quarterdeck.job_history (id, queue, tenant, kind, args, created_at, run_at, tags, workflow_id, timeline,
      state, seq, attempt, attempted_at, finalized_at, result)
    select {_COLUMNS}, case when n % 50 = 7 then 'cancelled' when n % 50 = 8 then 'discarded' else 'completed' end,
      3, 1, at, at + interval '1 s', '{{"pages": 12}}'
    from (select n, now() - make_interval(days => $2) * (1 - n / $3::float8) as at
      from generate_series($1::bigint, $1 + $4 - 1) as n) numbers
    order by n
"""
SEED_WAITING = f"""
    insert into quarterdeck.job (id, queue, tenant, kind, args, created_at, run_at, tags, workflow_id, timeline, state)
    select {_COLUMNS}, case when n % 3 = 0 then 'scheduled' else 'available' end
    from (select n, now() - interval '1 day' * (1 - n / $1::float8) as at
      from generate_series(1, $1::bigint) as n) numbers
    order by n
"""
AT_ONCE = 200_000


def filters(now: dt.datetime, days: int) -> Iterator[tuple[str, JobFilter]]:
    """Every combination of filters, with values that much fits, and with values that next to nothing fits."""
    common: dict[str, Any] = {
        "states": (State.COMPLETED,),
        "kind": "kind-1",
        "queue": "queue-1",
        "tags": ("a",),
        "workflow_id": WORKFLOW,
        "created_after": now - dt.timedelta(days=days * 0.8),
        "created_before": now - dt.timedelta(days=days * 0.2),
        "args": {"customer": 7},
    }
    rare = {
        **common,
        "states": (State.DISCARDED, State.RETRYABLE),
        "kind": "rare",
        "queue": "none",
        "tags": ("rare", "a"),
        "workflow_id": uuid.UUID(int=2),
        "args": {"customer": -1},
    }
    for name, values in (("common", common), ("rare", rare)):
        for count in range(len(values) + 1):
            for chosen in itertools.combinations(values, count):
                if "args" in chosen and not {"kind", "queue"} & set(chosen):
                    continue
                label = f"{name}: {', '.join(chosen) or 'no filter'}"
                yield label, JobFilter(**{field: values[field] for field in chosen}).checked()


async def seed(bench: Bench, rows: int, days: int, *, analyze: bool = True) -> None:
    """Fills the history, and the table of waiting jobs with a twentieth of that at most."""
    await bench.one.execute("set enable_seqscan = on")
    await bench.one.fetch(PARTITIONS, days + 1)
    for first in range(1, rows + 1, AT_ONCE):
        count = min(AT_ONCE, rows + 1 - first)
        await bench.one.execute(SEED_HISTORY, first, days, float(rows), count, timeout=SEED_TIMEOUT)
    await bench.one.execute(SEED_WAITING, float(min(WAITING, rows // 20)), timeout=SEED_TIMEOUT)
    for table in ("quarterdeck.job", "quarterdeck.job_history"):
        await bench.one.execute(f"vacuum {'analyze' if analyze else ''} {table}", timeout=SEED_TIMEOUT)
    await bench.one.execute("checkpoint", timeout=SEED_TIMEOUT)


class Figure(msgspec.Struct, frozen=True):
    """One combination of filters: milliseconds of its pages."""

    label: str
    took: list[float]


async def measure(bench: Bench, days: int, repeats: int) -> list[Figure]:
    """Pages of each combination: the first one, the ones after it, and one from the middle of the history."""
    connections = await pool.open_pool(bench.dsn, name="bench", size=2, command_timeout=10)
    store = JobListStore(connections)
    now = dt.datetime.now(dt.UTC)
    middle = uuid.UUID(int=int((now - dt.timedelta(days=days / 2)).timestamp() * 1000) << 80)
    figures = []
    try:
        for label, wanted in filters(now, days):
            took = []
            for _ in range(repeats):
                for start in (None, middle):
                    before = start
                    for limit in (DEFAULT_LIMIT, MAX_LIMIT):
                        begun = time.perf_counter()
                        page = await store.list_jobs(wanted, TENANT, limit, before)
                        took.append((time.perf_counter() - begun) * 1000)
                        if page.end is None:
                            break
                        before = uuid.UUID(int=page.end)
            figures.append(Figure(label, took))
    finally:
        await pool.close_pool(connections)
    return figures


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


@click.command()
@click.option("--rows", type=click.IntRange(1), default=2_000_000, show_default=True, help="Jobs in the history.")
@click.option("--days", type=click.IntRange(1), default=10, show_default=True, help="Days over which they are spread.")
@click.option(
    "--repeats", type=click.IntRange(1), default=3, show_default=True, help="How often each page is asked for."
)
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path), help="Where the database is made.")
def main(rows: int, days: int, repeats: int, directory: Path | None) -> None:
    """Measure pages of jobs for every combination of filters. Exits with 1 where one takes too long."""
    log.configure("warning", "console")
    worst = asyncio.run(_run(rows, days, repeats, directory))
    raise SystemExit(int(worst > BAR_MS))


async def _run(rows: int, days: int, repeats: int, directory: Path | None) -> float:
    async with opened(directory) as bench:
        begun = time.perf_counter()
        await seed(bench, rows, days)
        print(f"{rows} jobs over {days} days seeded in {time.perf_counter() - begun:.0f} s")
        gc.collect()
        figures = await measure(bench, days, repeats)
    every = [value for figure in figures for value in figure.took]
    print(f"{len(figures)} combinations, {len(every)} pages, milliseconds:")
    print(f"p50 {quantile(every, 0.5):.1f}, p99 {quantile(every, 0.99):.1f}, max {max(every):.1f}")
    print("the slowest combinations, by their p99:")
    slowest = sorted(figures, key=lambda figure: quantile(figure.took, 0.99), reverse=True)
    for figure in slowest[:10]:
        print(f"  {quantile(figure.took, 0.99):7.1f}  {quantile(figure.took, 0.5):7.1f} (p50)  {figure.label}")
    return quantile(slowest[0].took, 0.99)


if __name__ == "__main__":
    main()
