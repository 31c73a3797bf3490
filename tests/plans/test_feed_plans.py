"""Readings of a long feed log use its index, and touch little more than they bring."""

import json

import asyncpg
import pytest

from quarterdeck.store import pool
from quarterdeck.store.queries import SQL

ROWS = 200_000
FILL = """
    insert into quarterdeck.feed (slot, xid, at, events)
    select quarterdeck.feed_slot(m), (1000000 + n)::text::xid8, m, '[]'
    from (select n, now() - interval '2 hours' + interval '2 hours' * n / {rows} as m
      from generate_series(1, {rows}) n) numbers
"""


@pytest.fixture(params=["never analysed", "analysed"])
async def log(database_url, request):
    connection = await asyncpg.connect(database_url, timeout=60)
    await connection.execute(FILL.format(rows=ROWS))
    if request.param == "analysed":
        await connection.execute("analyze quarterdeck.feed")
    await connection.close()
    connection = await pool.open_connection(database_url, name="plans", command_timeout=30)
    yield connection
    await connection.close()


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("read_feed", f"'{1000000 + ROWS - 3}', '{2**63 - 1}', 64"),
        ("read_feed", f"'1000001', '{1000000 + ROWS}', 64"),
        ("read_feed", f"'{1000000 + ROWS // 2}', '{2**63 - 1}', 64"),
        ("read_feed", f"'{1000000 + 2 * ROWS}', '{2**63 - 1}', 64"),
        ("read_late_feed", "'{1000777}'"),
    ],
)
async def test_a_reading_touches_little_more_than_it_brings(log, mode, name, arguments):
    await log.execute(f"set plan_cache_mode = {mode}")
    await log.execute(f"prepare {name} as {SQL[name]}")
    text = await log.fetchval(f"explain (analyze, buffers, timing off, format json) execute {name}({arguments})")
    (answer,) = json.loads(text)
    assert "Seq Scan" not in text
    assert sum(answer["Plan"].get(f"Shared {how} Blocks", 0) for how in ("Hit", "Read")) < 60
