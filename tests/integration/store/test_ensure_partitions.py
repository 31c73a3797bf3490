import asyncio
import datetime as dt

import asyncpg
import pytest

from quarterdeck.store import pool
from tests.support.factories import completed, history, new_id, new_job, open_stores

DAY = dt.timedelta(days=1)
PARTITIONED = ("job_event", "job_history")


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def partitions(stores):
    rows = await stores.fetch(
        """select inhparent::regclass::text || ' ' || inhrelid::regclass::text as name from pg_inherits
        join pg_class on pg_class.oid = inhrelid where relkind = 'r' and relname !~ '^feed_' order by 1"""
    )
    return [row["name"].replace("quarterdeck.", "") for row in rows]


async def today(stores):
    (row,) = await stores.fetch("select (now() at time zone 'UTC')::date as today")
    return row["today"]


async def drop(stores, day):
    for table in PARTITIONED:
        await stores.execute(f"drop table if exists quarterdeck.{table}_{day:%Y%m%d}")


async def test_a_fresh_database_has_the_days_from_yesterday_to_two_weeks_ahead(stores):
    days = [await today(stores) + number * DAY for number in range(-1, 15)]
    expected = [f"{table} {table}_{day:%Y%m%d}" for table in PARTITIONED for day in days]
    assert await partitions(stores) == expected
    assert await stores.upkeep.ensure_partitions() == 0


async def test_missing_days_are_made_again(stores):
    before, day = await partitions(stores), await today(stores)
    await drop(stores, day)
    await drop(stores, day + 14 * DAY)
    assert await stores.upkeep.ensure_partitions() == 4
    assert await partitions(stores) == before


async def test_a_table_that_is_missing_alone_is_made_again(stores):
    before, day = await partitions(stores), await today(stores)
    await stores.execute(f"drop table quarterdeck.job_event_{day:%Y%m%d}")
    assert await stores.upkeep.ensure_partitions() == 1
    assert await partitions(stores) == before


async def test_processes_that_start_together_make_each_day_once(stores):
    before, day = await partitions(stores), await today(stores)
    for number in range(5):
        await drop(stores, day + number * DAY)
    made = await asyncio.gather(*(stores.upkeep.ensure_partitions() for _ in range(4)))
    assert sorted(made) == [0, 0, 0, 10]
    assert await partitions(stores) == before


async def test_a_day_made_again_has_the_constraints_the_indexes_and_the_trigger_of_the_others(stores):
    day = await today(stores)

    async def catalog(day):
        rows = await stores.fetch(
            """select 'constraint ' || conname || pg_get_constraintdef(oid) as line
            from pg_constraint where conrelid = $1::regclass
            union all select 'index ' || pg_get_indexdef(indexrelid) from pg_index where indrelid = $1::regclass
            union all select 'trigger ' || tgname from pg_trigger where tgrelid = $1::regclass order by 1""",
            f"quarterdeck.job_history_{day:%Y%m%d}",
        )
        return [row["line"].replace(f"{day:%Y%m%d}", "DAY") for row in rows]

    await drop(stores, day)
    await stores.upkeep.ensure_partitions()
    assert await catalog(day) == await catalog(day + 5 * DAY)
    assert any(line.startswith("trigger job_history_is_final") for line in await catalog(day))


async def test_a_job_whose_day_has_no_partition_is_refused_in_a_way_that_is_recognised_and_healed(stores):
    claimed = await stores.running()
    await drop(stores, await today(stores))
    await drop(stores, await today(stores) - DAY)
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await stores.attempts.finish_jobs([completed(claimed)])
    assert pool.is_missing_partition(refused.value)
    assert (await stores.row(claimed.id))["state"] == "running", "nothing is lost"
    await stores.upkeep.ensure_partitions()
    await stores.finish(claimed)
    assert history(await stores.row(claimed.id)) == ["submitted", "started", "completed"]


async def test_another_broken_constraint_is_not_taken_for_a_missing_partition(stores):
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await stores.insert(new_job(priority=10))
    assert not pool.is_missing_partition(refused.value)


@pytest.mark.parametrize("days", [-40, 20], ids=["long ago", "far ahead"])
async def test_the_day_of_an_unfinished_job_is_made_however_far_it_is(stores, days):
    # Submitted by SQL while no process of ours ran, or with an id from a clock that was wrong.
    job = new_job(id=new_id(dt.datetime.now(dt.UTC) + days * DAY))
    await stores.insert(job)
    (claimed,) = await stores.claim("w")
    with pytest.raises(asyncpg.CheckViolationError):
        await stores.attempts.finish_jobs([completed(claimed)])
    await stores.upkeep.ensure_partitions()
    await stores.finish(claimed)


async def test_a_job_of_midnight_belongs_to_the_day_that_begins(stores):
    day = await today(stores) + DAY
    midnight = dt.datetime.combine(day, dt.time(), dt.UTC)
    first, last = new_job(id=new_id(midnight)), new_job(id=new_id(midnight - dt.timedelta(milliseconds=1)))
    await stores.insert(first, last)
    await stores.finish(*await stores.claim("w"))
    rows = await stores.fetch("select id, tableoid::regclass::text as table from quarterdeck.job_history")
    assert {row["id"]: row["table"][-8:] for row in rows} == {
        first.id: f"{day:%Y%m%d}",
        last.id: f"{day - DAY:%Y%m%d}",
    }


async def test_sessions_in_another_time_zone_make_the_same_days(stores):
    before, day = await partitions(stores), await today(stores)
    await drop(stores, day)
    async with stores.transaction() as elsewhere:
        await elsewhere.execute("set local timezone = 'Pacific/Kiritimati'")
        assert await elsewhere.upkeep.ensure_partitions() == 2
    assert await partitions(stores) == before
    claimed = await stores.running()
    await stores.finish(claimed)
