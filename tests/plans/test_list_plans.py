"""A page of jobs costs what its budget allows, whatever the filter, the size of the history and the statistics.

Every statement is composed by the store, and explained as it ran in a session of the service: what counts is how many
rows the plan touched, and that no sort or sequential scan had to see a table whole.
"""

import asyncio
import datetime as dt
import itertools
import json
import uuid

import pytest

from benchmarks import list_pages
from benchmarks.bench import Bench
from quarterdeck.domain.listing import JobFilter
from quarterdeck.domain.state import State
from quarterdeck.store import job_list, pool
from quarterdeck.store.job_list import compose
from tests.support.database import create_database, drop_database

ROWS = 60_000
DAYS = 4
LIMIT = 50
PLANS = ["force_custom_plan", "force_generic_plan"]
NOW = dt.datetime.now(dt.UTC)
FILTERS = [
    JobFilter(),
    JobFilter(kind="rare"),
    JobFilter(kind="rare", args={"customer": -1}),
    JobFilter(queue="none", tags=("rare", "a")),
    JobFilter(states=(State.COMPLETED,), kind="rare"),
    JobFilter(states=(State.AVAILABLE,), kind="rare"),
    JobFilter(states=(State.RUNNING,)),
    JobFilter(states=(State.RETRYABLE, State.DISCARDED), tags=("none",)),
    JobFilter(workflow_id=uuid.UUID(int=2)),
    JobFilter(workflow_id=list_pages.WORKFLOW, kind="rare"),
    JobFilter(created_after=NOW - dt.timedelta(days=3), created_before=NOW - dt.timedelta(days=1), kind="rare"),
]
BEFORE = [None, uuid.UUID(int=int((NOW - dt.timedelta(days=2)).timestamp() * 1000) << 80)]


@pytest.fixture(scope="module", params=["analysed", "never analysed"])
def database(server, request):
    """A history of some days, and the statistics of one, or of none."""

    async def fill():
        name = await create_database(server, migrated=True)
        connection = await pool.open_connection(server.database(name), name=pool.API, command_timeout=50)
        try:
            await connection.execute("set enable_seqscan = on")
            bench = Bench(None, server.database(name), connection, connection)
            await list_pages.seed(bench, ROWS, DAYS, analyze=request.param == "analysed")
        finally:
            await connection.close()
        return name

    name = asyncio.run(fill())
    yield server.database(name)
    asyncio.run(drop_database(server, name))


def nodes(plan):
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def touched(node):
    """Rows that a scan read, those that its filter removed included."""
    loops = node["Actual Loops"]
    return (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * loops


def describe(wanted):
    given = ((name, getattr(wanted, name)) for name in wanted.__struct_fields__)
    return ",".join(name for name, value in given if value not in ((), None)) or "none"


@pytest.mark.parametrize("plan", PLANS)
async def test_no_page_looks_at_more_rows_than_its_budget(database, plan, subtests):
    connection = await pool.open_connection(database, name=pool.API, command_timeout=20)
    try:
        await connection.execute(f"set plan_cache_mode = {plan}")
        for wanted, before in itertools.product(FILTERS, BEFORE):
            with subtests.test(f"{describe(wanted)} {'from the middle' if before else 'from the top'}"):
                statement, arguments = compose(wanted.checked(), "default", LIMIT, before)
                async with connection.transaction():
                    await connection.execute(job_list.READING)
                    (row,) = await connection.fetch(f"explain (analyze, format json) {statement}", *arguments)
                found = list(nodes(json.loads(row[0])[0]["Plan"]))
                scans = [node for node in found if "Scan" in node["Node Type"] and "Relation Name" in node]
                arms = 2 if len(wanted.states) != 1 else 1
                assert sum(map(touched, scans)) <= arms * job_list.MAX_ROWS + LIMIT
                assert not [node for node in scans if node["Node Type"] == "Seq Scan" and node["Actual Loops"]]
                sorts = [node for node in found if node["Node Type"] == "Sort"]
                assert all(node["Actual Rows"] <= LIMIT for node in sorts)
    finally:
        await connection.close(timeout=5)
