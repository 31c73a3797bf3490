import asyncio

import asyncpg
import pytest

from quarterdeck.store import pool
from tests.support.factories import new_id, new_job, open_stores
from tests.support.waiting import eventually

PASSING, CONFLICT, DATA = "passing", "conflict", "data"


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


def classes(error):
    """What the service makes of an error."""
    checks = {PASSING: pool.is_passing, CONFLICT: pool.is_conflict, DATA: pool.is_data_error}
    return {name for name, check in checks.items() if check(error)}


async def error_of(awaitable):
    try:
        await awaitable
    except Exception as error:  # noqa: BLE001 - whatever it is
        return error
    pytest.fail("no error")


@pytest.mark.parametrize(
    ("statement", "arguments"),
    [
        ("select $1::jsonb", [{"a": "\0"}]),
        ("select $1::jsonb", [{"a": "\ud800"}]),
        ("select $1::jsonb", [{"a": object()}]),
        ("select $1::text[]", [["\ud800"]]),
        ("select $1::text[]", [["a\0"]]),
        ("select $1::smallint", [70_000]),
        ("select $1::uuid", ["not one"]),
        ("select $1::text::json", ["{"]),
        ("select $1::text::json", ["[" * 100_000]),
        ("select 1 / $1::integer", [0]),
    ],
    ids=["nul", "surrogate", "object", "text surrogate", "text nul", "smallint", "uuid", "json", "deep", "division"],
)
async def test_a_value_that_cannot_be_stored_is_a_data_error(stores, statement, arguments):
    assert classes(await error_of(stores.fetch(statement, *arguments))) == {DATA}


async def test_a_broken_constraint_is_a_data_error(stores):
    assert classes(await error_of(stores.insert(new_job(priority=10)))) == {DATA}
    assert classes(await error_of(stores.insert(new_job(queue="")))) == {DATA}


async def test_a_key_that_is_too_long_for_its_index_is_a_data_error(stores):
    (row,) = await stores.fetch("select string_agg(gen_random_uuid()::text, '') as key from generate_series(1, 300)")
    statement = "insert into quarterdeck.unique_key (tenant, queue, key, job_id) values ('t', 'q', $1, $2)"
    assert classes(await error_of(stores.execute(statement, row["key"], new_id()))) == {DATA}


async def test_a_deadlock_is_a_conflict_that_one_of_the_two_survives(stores):
    jobs = [new_job(), new_job()]
    await stores.insert(*jobs)
    touch = "update quarterdeck.job set priority = 1 where id = $1"
    both_hold_one = asyncio.Barrier(2)

    async def lock(first, second):
        async with stores.transaction() as mine:
            await mine.execute(touch, first.id)
            await both_hold_one.wait()
            await mine.execute(touch, second.id)

    errors = await asyncio.gather(lock(*jobs), lock(*reversed(jobs)), return_exceptions=True)
    (error,) = [error for error in errors if error is not None]
    assert isinstance(error, asyncpg.DeadlockDetectedError)
    assert classes(error) == {CONFLICT}


async def test_a_serialization_failure_is_a_conflict(stores):
    job = new_job()
    await stores.insert(job)

    async def late():
        async with stores.transaction() as mine:
            await mine.execute("set transaction isolation level repeatable read")
            await mine.fetch("select from quarterdeck.job")
            await stores.execute("update quarterdeck.job set priority = 1")
            await mine.execute("update quarterdeck.job set priority = 2")

    assert classes(await error_of(late())) == {CONFLICT}


async def test_a_lock_that_is_not_given_in_time_is_a_conflict(stores):
    await stores.insert(new_job())
    async with stores.transaction() as holder, stores.transaction() as other:
        await holder.execute("update quarterdeck.job set priority = 1")
        await other.execute("set local lock_timeout = '10ms'")
        savepoint = other.source._connection.transaction()
        await savepoint.start()
        error = await error_of(other.execute("update quarterdeck.job set priority = 2"))
        await savepoint.rollback()
    assert classes(error) == {CONFLICT}


async def test_a_plan_that_went_stale_is_a_conflict(stores):
    async with stores.connection() as connection:
        await connection.fetch("select * from quarterdeck.kind")
        await stores.execute("alter table quarterdeck.kind add column later text")
        async with connection.transaction():
            # asyncpg itself repeats it outside a transaction only.
            error = await error_of(connection.fetch("select * from quarterdeck.kind"))
            assert classes(error) == {CONFLICT}


async def test_a_connection_that_is_cut_passes_by_itself(stores):
    async with stores.connection() as connection:
        sleeping = asyncio.create_task(connection.fetch("select pg_sleep(60)"))
        await until_sleeping(stores)
        await stores.fetch("select pg_terminate_backend($1)", connection.get_server_pid())
        assert classes(await error_of(sleeping)) == {PASSING}
        assert classes(await error_of(connection.fetch("select 1"))) == {PASSING}


async def test_a_statement_that_somebody_cancels_passes_by_itself(stores):
    # pg_cancel_backend by an administrator, or a statement_timeout that a role has.
    async with stores.connection() as connection:
        sleeping = asyncio.create_task(connection.fetch("select pg_sleep(60)"))
        await until_sleeping(stores)
        await stores.fetch("select pg_cancel_backend($1)", connection.get_server_pid())
        assert classes(await error_of(sleeping)) == {PASSING}


async def until_sleeping(stores):
    sleeping = "select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()"
    await eventually(lambda: stores.fetch(sleeping))


async def test_a_statement_that_takes_too_long_passes_by_itself(stores):
    async with stores.connection() as connection:
        error = await error_of(connection.fetch("select pg_sleep(60)", timeout=0.05))
    assert classes(error) == {PASSING}


async def test_a_server_that_is_not_there_passes_by_itself(tmp_path):
    for dsn in ("postgresql://postgres@127.0.0.1:1/x", f"postgresql://postgres@/x?host={tmp_path}"):
        error = await error_of(pool.open_connection(dsn, name="test", command_timeout=1))
        assert classes(error) == {PASSING}


async def test_a_pool_without_a_free_connection_passes_by_itself(database_url, monkeypatch):
    monkeypatch.setattr(pool, "ACQUIRE_TIMEOUT", 0.05)
    connections = await pool.open_pool(database_url, name="test", size=1, command_timeout=5)
    async with connections.acquire():
        assert classes(await error_of(pool.fetch(connections, "ping"))) == {PASSING}
    await pool.close_pool(connections)
    assert classes(await error_of(pool.fetch(connections, "ping"))) == {PASSING}


async def test_a_write_on_a_server_that_only_reads_passes_by_itself(stores):
    async with stores.connection() as connection, connection.transaction(readonly=True):
        savepoint = connection.transaction()
        await savepoint.start()
        error = await error_of(connection.execute("delete from quarterdeck.job"))
        await savepoint.rollback()
    assert classes(error) == {PASSING}


@pytest.mark.parametrize("statement", ["select nonsense", "selct 1", "select * from nowhere", "drop table pg_class"])
async def test_a_mistake_of_ours_is_nothing_that_passes(stores, statement):
    assert classes(await error_of(stores.fetch(statement))) == set()


async def test_a_session_of_ours_never_scans_a_whole_table_and_says_who_it_is(stores):
    (row,) = await stores.fetch(
        """select current_setting('enable_seqscan') as seqscan, current_setting('jit') as jit,
        current_setting('application_name') as name, current_setting('TimeZone') as zone,
        current_setting('idle_in_transaction_session_timeout') as idle"""
    )
    assert tuple(row) == ("off", "off", "quarterdeck-test", "UTC", "10s")


async def test_closing_a_pool_cuts_connections_that_do_not_come_back(database_url, stores):
    connections = await pool.open_pool(database_url, name="kept", size=2, command_timeout=5)
    kept = await connections.acquire()
    sessions = "select from pg_stat_activity where application_name = 'quarterdeck-kept' and pid = $1"
    pid = kept.get_server_pid()
    assert await stores.fetch(sessions, pid)
    await pool.close_pool(connections, within=0.05)

    async def cut():
        return not await stores.fetch(sessions, pid)

    await eventually(cut)
