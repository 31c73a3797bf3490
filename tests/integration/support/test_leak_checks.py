"""The checks that run after every other test must themselves be able to fail."""

import asyncio

import asyncpg
import pytest

from tests.support.database import fresh_database
from tests.support.tasks import no_task_left
from tests.support.waiting import eventually


async def database_exists(server_dsn: str, name: str) -> bool:
    connection = await asyncpg.connect(server_dsn)
    try:
        return await connection.fetchval("select exists (select from pg_database where datname = $1)", name)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("statements", "what"),
    [
        (["select pg_advisory_lock(7)"], "advisory lock"),
        (["begin", "select 1"], "idle in transaction after: select 1"),
    ],
)
async def test_what_is_left_in_a_database_fails_its_test(server, statements, what):
    async def leaving_test():
        async with fresh_database(server, migrated=False, patience=0.1) as dsn:
            connection = await asyncpg.connect(dsn)
            left.append(connection)
            names.append(await connection.fetchval("select current_database()"))
            for statement in statements:
                await connection.execute(statement)

    left, names = [], []
    with pytest.raises(AssertionError, match=what):
        await leaving_test()
    assert not await database_exists(server.dsn, names[0])
    await left[0].close()


async def test_a_database_is_dropped_when_its_test_fails(server):
    async def failing_test():
        async with fresh_database(server, migrated=False) as dsn:
            names.append(dsn.partition("?")[0].rpartition("/")[2])
            raise ValueError("from the test")

    names = []
    with pytest.raises(ValueError, match="from the test"):
        await failing_test()
    assert not await database_exists(server.dsn, names[0])


async def test_a_migrated_database_is_a_fresh_clone(server):
    async with fresh_database(server, migrated=True) as first, fresh_database(server, migrated=True) as second:
        connections = [await asyncpg.connect(dsn) for dsn in (first, second)]
        schemas = [await each.fetchval("select to_regnamespace('quarterdeck') is not null") for each in connections]
        names = [await each.fetchval("select current_database()") for each in connections]
        for each in connections:
            await each.close()
    assert schemas == [True, True]
    assert len(set(names)) == 2


async def test_a_task_that_runs_on_fails_its_test():
    asleep = asyncio.Event()
    before = asyncio.all_tasks()
    stray = asyncio.create_task(asleep.wait(), name="stray")
    with pytest.raises(AssertionError, match="stray"):
        await no_task_left(before, within=0.05)
    asleep.set()
    await stray
    await no_task_left(before, within=0.05)


async def test_waiting_answers_what_the_check_found():
    answers = iter([None, 0, "found"])
    assert await eventually(lambda: next(answers)) == "found"


async def test_waiting_tries_a_failed_assertion_again():
    tries = []

    async def third_time():
        tries.append(1)
        assert len(tries) == 3, "too early"
        return True

    assert await eventually(third_time)


async def test_waiting_gives_up_with_the_last_failure_in_the_message():
    async def never():
        raise AssertionError("the lamp is off")

    with pytest.raises(AssertionError, match="the lamp is off"):
        await eventually(never, within=0.02)


async def test_waiting_does_not_hide_other_exceptions():
    with pytest.raises(ZeroDivisionError):
        await eventually(lambda: 1 / 0)
