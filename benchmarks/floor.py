"""The floor: the service's own statements over bare asyncpg, with nothing around them.

No engine on this schema and this driver can be faster than its statements in groups of the same size.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import asyncpg

from benchmarks.bench import Bench
from benchmarks.measure import Sample, Stopwatch
from quarterdeck.domain.job import (
    DEFAULT_QUEUE,
    NewJob,
)
from quarterdeck.domain.state import State
from quarterdeck.store.jobs import columns_of
from quarterdeck.store.queries import SQL

KIND = "noop"
WORKER = "bench"
LEASE = 600.0
RESULT = "null"

Group = list[list[Any]]
"""The columns of some jobs, as `insert_jobs` takes them."""


def columns(bench: Bench, count: int, *, hand_off: bool = False) -> Group:
    """`count` new jobs without arguments."""
    jobs = [NewJob(id=bench.ids.next(), kind=KIND, args={}) for _ in range(count)]
    return [list(column) for column in zip(*(columns_of(job, hand_off=hand_off) for job in jobs), strict=True)]


def backlog(bench: Bench, jobs: int, group: int, *, hand_off: bool = False) -> list[Group]:
    """`jobs` new jobs in groups."""
    sizes = [group] * (jobs // group) + [jobs % group] * bool(jobs % group)
    return [columns(bench, size, hand_off=hand_off) for size in sizes]


async def insert(connection: asyncpg.Connection, group: Group, worker: str | None = None) -> list[asyncpg.Record]:
    """One group, one commit."""
    return await connection.fetch(SQL["insert_jobs"], *group, worker)


async def claim(connection: asyncpg.Connection, limit: int) -> list[asyncpg.Record]:
    """Up to `limit` jobs, as the worker of the benchmarks."""
    return await connection.fetch(SQL["claim_jobs"], DEFAULT_QUEUE, limit, WORKER, [KIND])


async def finish(connection: asyncpg.Connection, ids: Sequence[Any], fences: Sequence[int]) -> None:
    """Completes a group; every job of it must be ours."""
    none = [None] * len(ids)
    states = [State.COMPLETED.value] * len(ids)
    done = await connection.fetch(SQL["finish_jobs"], ids, fences, states, none, none, [RESULT] * len(ids), none)
    assert len(done) == len(ids), "a finish was refused"


async def seed(bench: Bench, jobs: int) -> None:
    """A backlog of waiting jobs, off the clock."""
    for group in backlog(bench, jobs, 500):
        await insert(bench.one, group)


async def steps(bench: Bench, jobs: int, group: int) -> list[Sample]:
    """Insert everything, then claim everything, then finish everything: each statement by itself."""
    groups = backlog(bench, jobs, group)
    inserting, claiming, finishing = Stopwatch(), Stopwatch(), Stopwatch()

    inserting.start()
    for new in groups:
        await inserting.timed("insert_jobs", insert(bench.one, new))
    inserting.stop()

    taken = []
    claiming.start()
    while rows := await claiming.timed("claim_jobs", claim(bench.one, group)):
        taken.append(([row["id"] for row in rows], [row["fence"] for row in rows]))
    claiming.stop()

    finishing.start()
    for ids, fences in taken:
        await finishing.timed("finish_jobs", finish(bench.one, ids, fences))
    finishing.stop()

    await _check(bench, jobs)
    return [
        inserting.sample(f"floor/insert/{group}", jobs),
        claiming.sample(f"floor/claim/{group}", jobs),
        finishing.sample(f"floor/finish/{group}", jobs),
    ]


async def claim_and_finish(bench: Bench, jobs: int, group: int) -> list[Sample]:
    """Drain a backlog: the finish of one group in flight beside the claim of the next."""
    await seed(bench, jobs)
    watch = Stopwatch()
    finishing: asyncio.Task[None] | None = None
    watch.start()
    while rows := await watch.timed("claim_jobs", claim(bench.one, group)):
        if finishing is not None:
            await finishing
        ids, fences = [row["id"] for row in rows], [row["fence"] for row in rows]
        finishing = asyncio.create_task(watch.timed("finish_jobs", finish(bench.two, ids, fences)))
    if finishing is not None:
        await finishing
    watch.stop()
    await _check(bench, jobs)
    return [watch.sample(f"floor/claim+finish/{group}", jobs)]


async def hand_off(bench: Bench, jobs: int, group: int) -> list[Sample]:
    """Jobs that begin life running and need no claim: the finish of one group beside the insert of the next."""
    await bench.one.fetch(
        SQL["register_worker"], WORKER, "localhost", os.getpid(), "all", None, [KIND], group, "0", LEASE
    )
    groups = backlog(bench, jobs, group, hand_off=True)
    watch = Stopwatch()
    finishing: asyncio.Task[None] | None = None
    watch.start()
    for new in groups:
        rows = await watch.timed("insert_jobs", insert(bench.one, new, WORKER))
        assert all(row["state"] == State.RUNNING for row in rows), "a job was not handed off"
        if finishing is not None:
            await finishing
        ids = [row["id"] for row in rows]
        finishing = asyncio.create_task(watch.timed("finish_jobs", finish(bench.two, ids, [1] * len(ids))))
    if finishing is not None:
        await finishing
    watch.stop()
    await _check(bench, jobs)
    return [watch.sample(f"floor/hand-off/{group}", jobs)]


async def _check(bench: Bench, jobs: int) -> None:
    completed = await bench.completed()
    assert completed == jobs, f"{completed} of {jobs} jobs completed"
