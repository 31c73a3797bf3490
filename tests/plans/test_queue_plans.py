"""What is asked of queues keeps its plans: counts read the indexes of their own queue, and nothing else."""

import json

import pytest

from quarterdeck.store.queries import SQL
from tests.support.factories import open_stores

JOBS = 20_000
MINE = 2_000
INDEXES = {"job_claim", "job_claim_keyed", "job_running", "job_parked"}

FILL = f"""
    insert into quarterdeck.job (id, queue, kind, state, args, worker, attempt, run_at, concurrency_key)
    select
      (lpad(to_hex((date_part('epoch', now()) * 1000)::bigint), 12, '0') || '7000a' || lpad(to_hex(n), 15, '0'))::uuid,
      case when n % 10 = 0 then 'mine' else 'other' end, 'echo', state, '{{}}', case state when 'running' then 'w' end,
      0, now() + n * interval '1 ms', case when n % 40 = 0 then 'k' end
    from (select n, (array['available', 'available', 'available', 'running', 'scheduled', 'retryable', 'pending'])[
      1 + n / 10 % 7] as state from generate_series(1, {JOBS}) as n) numbers
"""
ENDED = """
    insert into quarterdeck.job_history (id, queue, kind, state, args, finalized_at)
    select
      (lpad(to_hex((date_part('epoch', now()) * 1000)::bigint), 12, '0') || '7000a' || lpad(to_hex(n), 15, '0'))::uuid,
      'mine', 'echo', 'completed', '{}', now() - (100000 - n) * interval '10 ms'
    from generate_series(1, 100000) as n
"""


@pytest.fixture(params=["never analysed", "analysed", "vacuumed"])
async def stores(database_url, request):
    async with open_stores(database_url) as stores:
        await stores.execute(FILL)
        if request.param == "analysed":
            await stores.execute("analyze quarterdeck.job")
        elif request.param == "vacuumed":
            await stores.execute("vacuum (analyze) quarterdeck.job")
        yield stores


async def explain(stores, name, *arguments, mode="force_generic_plan"):
    """The plan's scans, as they ran."""
    async with stores.connection() as connection, connection.transaction():
        await connection.execute(f"set local plan_cache_mode = {mode}")
        await connection.execute(f"prepare statement as {SQL[name]}")
        text = await connection.fetchval(
            f"explain (analyze, buffers, timing off, format json) execute statement({', '.join(arguments)})"
        )
        await connection.execute("deallocate statement")
    (answer,) = json.loads(text)
    return [
        node for node in nodes_of(answer["Plan"]) if "Scan" in node["Node Type"] and node["Node Type"] != "CTE Scan"
    ]


def nodes_of(plan):
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes_of(inner)


def rows_of(scans):
    """Rows that the scans looked at."""
    return sum(
        (scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0) + scan.get("Rows Removed by Index Recheck", 0))
        * scan["Actual Loops"]
        for scan in scans
    )


def on_jobs(scans):
    return [scan for scan in scans if (scan.get("Relation Name") or scan.get("Index Name") or "").startswith("job")]


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_a_depth_reads_its_own_queue_in_the_indexes_and_nothing_else(stores, mode):
    scans = on_jobs(await explain(stores, "count_depths", "'{mine}'", mode=mode))
    assert {scan["Index Name"] for scan in scans if "Index Name" in scan} == INDEXES
    assert "Seq Scan" not in {scan["Node Type"] for scan in scans}
    # A bitmap counts its rows twice: once in the index, once in the table.
    assert rows_of(scans) <= 2 * MINE


async def test_a_depth_of_an_empty_queue_reads_nothing(stores):
    assert rows_of(on_jobs(await explain(stores, "count_depths", "'{nobody}'"))) == 0


async def test_room_is_counted_no_further_than_it_matters(stores):
    await stores.execute("insert into quarterdeck.queue (name, max_depth) values ('mine', 10)")
    assert rows_of(on_jobs(await explain(stores, "count_room", "'{mine}'"))) <= 80


async def test_naming_queues_costs_a_few_probes_a_name(stores):
    scans = on_jobs(await explain(stores, "name_queues", "''", "50"))
    assert "Seq Scan" not in {scan["Node Type"] for scan in scans}
    assert rows_of(scans) <= 15


async def test_counting_what_ended_lately_reads_what_ended_lately(database_url):
    async with open_stores(database_url) as stores:
        await stores.execute(ENDED)
        await stores.execute("vacuum (analyze) quarterdeck.job_history")
        scans = on_jobs(await explain(stores, "count_finished", "'{mine}'", "100"))
        assert any("finalized" in scan.get("Index Name", "") for scan in scans)
        heap = [scan for scan in scans if scan["Node Type"] == "Bitmap Heap Scan"]
        # Of 100 000 rows 10 000 ended in the last 100 s; whole ranges of pages are read, so some more.
        assert 0 < rows_of(heap) <= 20_000
