"""What is asked of topics keeps its plans: a few rows of their own, however many topics and messages there are."""

import json

import pytest

from quarterdeck.store.queries import SQL
from tests.support.factories import open_stores

FILL = """
    with topic as (
      insert into quarterdeck.topic (tenant, name, last)
      select 't', 'topic-' || n, 100 from generate_series(1, 1000) as n
      returning tenant, name
    )
    insert into quarterdeck.topic_message (tenant, topic, id, at, data)
    select t.tenant, t.name, n, now() - (100 - n) * interval '1 s', '"x"' from topic t, generate_series(1, 100) as n
"""
TOPICS = "array['t', 't', 't']", "array['topic-1', 'topic-500', 'nothing']"


@pytest.fixture(params=["never analysed", "analysed"])
async def stores(database_url, request):
    async with open_stores(database_url) as stores:
        if request.param == "analysed":
            await stores.execute(FILL)
            await stores.execute("analyze quarterdeck.topic, quarterdeck.topic_message")
        else:
            await stores.execute("analyze quarterdeck.topic, quarterdeck.topic_message")  # of empty tables
            await stores.execute(FILL)
        yield stores


async def rows_read(stores, name, *arguments):
    """The rows of tables that a statement looks at, by a plan made once for all arguments."""
    async with stores.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("set local plan_cache_mode = force_generic_plan")
        await connection.execute(f"prepare statement as {SQL[name]}")
        text = await connection.fetchval(
            f"explain (analyze, timing off, format json) execute statement({', '.join(arguments)})"
        )
        await transaction.rollback()
    (answer,) = json.loads(text)
    scans = [node for node in nodes_of(answer["Plan"]) if "Index Name" in node or "Relation Name" in node]
    assert "Seq Scan" not in {scan["Node Type"] for scan in scans}
    return round(
        sum(
            (scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0)) * scan["Actual Loops"]
            for scan in scans
            if scan["Node Type"] != "ModifyTable"
        )
    )


def nodes_of(plan):
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes_of(inner)


@pytest.mark.parametrize(("after", "expected"), [(100, 2), (97, 2 + 6), (0, 2 + 20)])
async def test_a_reading_looks_at_what_it_returns(stores, after, expected):
    read = await rows_read(
        stores, "read_messages", *TOPICS, f"array[{after}, {after}, {after}]", "10", "100000", "1000", "3600"
    )
    assert read <= expected


async def test_a_list_looks_at_what_it_returns(stores):
    assert await rows_read(stores, "list_messages", "'t'", "'topic-500'", "50", "10", "100000", "1000", "3600") <= 11


async def test_publishing_looks_at_no_message(stores):
    assert await rows_read(stores, "publish_messages", *TOPICS, "array['1', '2', '3']") == 0


async def test_pruning_looks_at_what_it_deletes(stores):
    assert await rows_read(stores, "prune_messages", *TOPICS, "10", "1000", "3600") <= 2
    assert await rows_read(stores, "prune_messages", *TOPICS, "10", "40", "3600") <= 2 + 2 * 20
    assert await rows_read(stores, "prune_messages", *TOPICS, "10", "1000", "50") <= 2 + 2 * 10
