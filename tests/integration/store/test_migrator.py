import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from quarterdeck.store import migrator
from quarterdeck.store.migrator import MigrationError, Migrator, SchemaAhead, SchemaBehind, SchemaDrifted
from quarterdeck.store.pool import is_passing
from tests.support.waiting import eventually

# Everything in the schema that a migration can make, but not the rows.
CATALOG = """
    select 'relation', oid::regclass::text, relkind::text from pg_class where relnamespace = 'quarterdeck'::regnamespace
    union all
    select 'column', attrelid::regclass::text || '.' || attname,
           format_type(atttypid, atttypmod) || ' ' || attnotnull || coalesce(pg_get_expr(adbin, adrelid), '')
      from pg_attribute join pg_class on pg_class.oid = attrelid
      left join pg_attrdef on adrelid = attrelid and adnum = attnum
     where relnamespace = 'quarterdeck'::regnamespace and attnum > 0 and not attisdropped
    union all
    select 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid)
      from pg_index join pg_class on pg_class.oid = indrelid where relnamespace = 'quarterdeck'::regnamespace
    union all
    select 'constraint', conrelid::regclass::text || '.' || conname, pg_get_constraintdef(oid)
      from pg_constraint where connamespace = 'quarterdeck'::regnamespace
    union all
    select 'function', oid::regprocedure::text, prosrc
      from pg_proc where pronamespace = 'quarterdeck'::regnamespace
    union all
    select 'trigger', tgrelid::regclass::text || '.' || tgname, pg_get_triggerdef(pg_trigger.oid)
      from pg_trigger join pg_class on pg_class.oid = tgrelid
     where relnamespace = 'quarterdeck'::regnamespace and not tgisinternal
    order by 1, 2, 3
"""


class Folder:
    """A directory of migrations that grows."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, version: int, up: str, down: str = "select 1;") -> "Folder":
        (self.path / f"{version:04d}_step{version}.up.sql").write_text(up)
        (self.path / f"{version:04d}_step{version}.down.sql").write_text(down)
        return self

    def forget(self, version: int) -> None:
        for file in self.path.glob(f"{version:04d}_*"):
            file.unlink()


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


@pytest.fixture
def tables(folder):
    """Three migrations, each of which creates a table and drops it."""
    for name, version in (("a", 1), ("b", 2), ("c", 3)):
        folder.add(version, f"create table quarterdeck.{name} ();", f"drop table quarterdeck.{name};")
    return folder


@pytest.fixture
async def database(empty_database):
    connection = await asyncpg.connect(empty_database)
    yield connection
    await connection.close()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(migrator, "_PAUSE", (0.001, 0.01))
    monkeypatch.setattr(migrator, "_BACKOFF", (0.001, 0.01))


async def tables_of(database: asyncpg.Connection) -> set[str]:
    rows = await database.fetch("select tablename from pg_tables where schemaname = 'quarterdeck'")
    return {row["tablename"] for row in rows} - {"migration"}


async def versions_of(database: asyncpg.Connection) -> list[int]:
    return [row["version"] for row in await database.fetch("select version from quarterdeck.migration order by 1")]


def labels(migrations) -> list[str]:
    return [migration.label for migration in migrations]


def somebody_waits(database: asyncpg.Connection):
    """A check: whether a backend of this database waits for the lock of a table."""

    async def waiting() -> bool:
        return await database.fetchval(
            "select exists (select from pg_locks where not granted"
            " and database = (select oid from pg_database where datname = current_database()))"
        )

    return waiting


# Up, down and how far.


async def test_up_applies_every_migration_in_order_and_keeps_a_row_of_each(empty_database, database, tables):
    applied = await Migrator(empty_database, tables.path).up()
    assert labels(applied) == ["0001_step1", "0002_step2", "0003_step3"]
    assert await tables_of(database) == {"a", "b", "c"}
    rows = await database.fetch("select * from quarterdeck.migration order by version")
    assert [(row["version"], row["name"], row["checksum"]) for row in rows] == [
        (one.version, one.name, one.checksum) for one in applied
    ]
    assert all(row["duration_ms"] >= 0 for row in rows)
    assert [row["applied_at"] for row in rows] == sorted(row["applied_at"] for row in rows)


async def test_up_applies_only_what_is_pending(empty_database, database, tables):
    await Migrator(empty_database, tables.path).up()
    assert await Migrator(empty_database, tables.path).up() == []
    tables.add(4, "create table quarterdeck.d ();")
    assert labels(await Migrator(empty_database, tables.path).up()) == ["0004_step4"]
    assert await tables_of(database) == {"a", "b", "c", "d"}


async def test_looking_at_an_empty_database_writes_nothing(empty_database, database, tables):
    new = Migrator(empty_database, tables.path)
    status = await new.status()
    assert labels(status.pending) == ["0001_step1", "0002_step2", "0003_step3"]
    assert (status.applied, status.ahead, status.drifted) == ([], [], [])
    with pytest.raises(SchemaBehind, match="0001_step1, 0002_step2, 0003_step3 are not applied; run `qd migrate up`"):
        await new.verify()
    assert await new.down() == []
    assert await database.fetchval("select to_regnamespace('quarterdeck')") is None


async def test_a_database_at_this_schema_is_verified(empty_database, tables):
    current = Migrator(empty_database, tables.path)
    await current.up()
    await current.verify()
    status = await current.status()
    assert labels(status.applied) == ["0001_step1", "0002_step2", "0003_step3"]
    assert (status.pending, status.ahead, status.drifted) == ([], [], [])


async def test_down_takes_back_the_newest_first_and_up_brings_them_again(empty_database, database, tables):
    current = Migrator(empty_database, tables.path)
    await current.up()
    assert labels(await current.down(to=1)) == ["0003_step3", "0002_step2"]
    assert await tables_of(database) == {"a"}
    assert await versions_of(database) == [1]
    assert await current.down(to=1) == []
    assert await current.down(to=9) == []
    assert labels(await current.up()) == ["0002_step2", "0003_step3"]
    assert labels(await current.down()) == ["0003_step3", "0002_step2", "0001_step1"]
    assert await tables_of(database) == set()


async def test_the_last_step_down_may_drop_the_schema(empty_database, database, folder):
    folder.add(1, "create table quarterdeck.a ();", "drop schema quarterdeck cascade;")
    current = Migrator(empty_database, folder.path)
    await current.up()
    assert labels(await current.down()) == ["0001_step1"]
    assert await database.fetchval("select to_regnamespace('quarterdeck')") is None
    assert labels(await current.up()) == ["0001_step1"]


async def test_this_program_s_own_migrations_go_up_down_and_up_to_the_same_schema(empty_database, database):
    current = Migrator(empty_database)
    assert (await current.up())[0].label == "0001_initial"
    first = await database.fetch(CATALOG)
    await current.down()
    assert await tables_of(database) == set()
    assert await database.fetchval("select count(*) from pg_proc where pronamespace = 'quarterdeck'::regnamespace") == 0
    await current.up()
    assert await database.fetch(CATALOG) == first
    assert len(first) > 100


# Databases of another program.


async def test_a_database_that_is_ahead_is_refused_by_name_and_left_alone(empty_database, database, tables):
    await Migrator(empty_database, tables.path).up()
    tables.forget(3)
    older = Migrator(empty_database, tables.path)
    for attempt in (older.verify, older.up, older.down):
        with pytest.raises(SchemaAhead, match=r"ahead: 0003_step3 is applied, but unknown"):
            await attempt()
    assert labels((await older.status()).ahead) == ["0003_step3"]
    assert await versions_of(database) == [1, 2, 3]
    assert await tables_of(database) == {"a", "b", "c"}


async def test_a_database_that_has_drifted_is_refused_by_name_and_left_alone(empty_database, database, tables):
    await Migrator(empty_database, tables.path).up()
    tables.add(2, "create table quarterdeck.other ();").add(4, "create table quarterdeck.d ();")
    changed = Migrator(empty_database, tables.path)
    for attempt in (changed.verify, changed.up, changed.down):
        with pytest.raises(SchemaDrifted, match=r"drifted: 0002_step2 is applied with another content"):
            await attempt()
    assert labels((await changed.status()).drifted) == ["0002_step2"]
    assert await tables_of(database) == {"a", "b", "c"}


async def test_a_changed_way_back_is_no_drift(empty_database, tables):
    await Migrator(empty_database, tables.path).up()
    tables.add(3, "create table quarterdeck.c ();", "drop table if exists quarterdeck.c;")
    await Migrator(empty_database, tables.path).verify()


async def test_a_migration_that_was_left_out_is_drift(empty_database, database, tables):
    current = Migrator(empty_database, tables.path)
    await current.up()
    await database.execute("delete from quarterdeck.migration where version = 2")
    for attempt in (current.verify, current.up):
        with pytest.raises(SchemaDrifted, match=r"drifted: 0002_step2 is not applied, though 0003_step3 is"):
            await attempt()


# Errors.


async def test_a_failing_statement_is_told_with_its_line_and_leaves_no_trace(empty_database, database, tables):
    tables.add(4, "create table quarterdeck.d ();\n\nselect\n  wrong;\n").add(5, "create table quarterdeck.e ();")
    with pytest.raises(MigrationError, match=r'^0004_step4.up.sql, line 4: column "wrong" does not exist'):
        await Migrator(empty_database, tables.path).up()
    assert await versions_of(database) == [1, 2, 3]
    assert await tables_of(database) == {"a", "b", "c"}
    tables.add(4, "create table quarterdeck.d ();")
    assert labels(await Migrator(empty_database, tables.path).up()) == ["0004_step4", "0005_step5"]


async def test_a_failing_way_back_leaves_its_migration_applied(empty_database, database, tables):
    tables.add(3, "create table quarterdeck.c ();", "drop table quarterdeck.c;\ndrop table quarterdeck.wrong;")
    current = Migrator(empty_database, tables.path)
    await current.up()
    with pytest.raises(MigrationError, match=r'^0003_step3.down.sql, line 1: table "wrong" does not exist'):
        await current.down()
    assert await versions_of(database) == [1, 2, 3]
    assert await tables_of(database) == {"a", "b", "c"}


async def test_a_server_that_is_too_old_is_refused(empty_database, monkeypatch, tables):
    monkeypatch.setattr(migrator, "OLDEST_SERVER", 99)
    current = Migrator(empty_database, tables.path)
    for attempt in (current.up, current.down, current.status, current.verify):
        with pytest.raises(MigrationError, match=r"PostgreSQL \d\d is too old: 99 or newer is needed"):
            await attempt()


async def test_a_database_that_cannot_be_reached_is_told_by_an_error_that_passes(tables):
    with pytest.raises(OSError, match="Connect call failed") as failed:
        await Migrator("postgresql://postgres@127.0.0.1:1/nothing", tables.path).up()
    assert is_passing(failed.value)


async def test_limits_on_ordinary_statements_do_not_cut_a_migration(empty_database, database, folder):
    name = await database.fetchval("select current_database()")
    await database.execute(f"alter database {name} set statement_timeout = '250ms'")
    await database.execute(f"alter database {name} set default_transaction_isolation = 'serializable'")
    folder.add(1, "select pg_sleep(0.5);").add(2, "-- no-transaction\nselect pg_sleep(0.5);")
    assert len(await Migrator(empty_database, folder.path).up()) == 2


async def test_a_role_that_may_create_no_schema_can_migrate_one_it_was_given(empty_database, database, tables):
    role = f"qd_role_{uuid4().hex[:8]}"
    await database.execute(f"create role {role}; create schema quarterdeck authorization {role}")
    try:
        separator = "&" if "?" in empty_database else "?"
        assert len(await Migrator(f"{empty_database}{separator}role={role}", tables.path).up()) == 3
    finally:
        await database.execute(f"drop owned by {role}; drop role {role}")


async def test_a_role_without_any_right_is_told_so(empty_database, database, tables):
    role = f"qd_role_{uuid4().hex[:8]}"
    await database.execute(f"create role {role}")
    try:
        separator = "&" if "?" in empty_database else "?"
        with pytest.raises(MigrationError, match=r"the table quarterdeck.migration: permission denied for database"):
            await Migrator(f"{empty_database}{separator}role={role}", tables.path).up()
    finally:
        await database.execute(f"drop role {role}")


# Several at once.


async def test_of_many_that_start_together_exactly_one_applies_each_migration(
    empty_database, database, tables, impatient
):
    tables.add(4, "select pg_sleep(0.1); create table quarterdeck.d ();")
    answers = await asyncio.gather(*(Migrator(empty_database, tables.path).up() for _ in range(12)))
    applied = [migration.version for answer in answers for migration in answer]
    assert sorted(applied) == [1, 2, 3, 4]
    assert await versions_of(database) == [1, 2, 3, 4]


async def test_many_that_go_down_together_take_back_each_migration_once(empty_database, database, tables, impatient):
    await Migrator(empty_database, tables.path).up()
    answers = await asyncio.gather(*(Migrator(empty_database, tables.path).down() for _ in range(6)))
    assert sorted(migration.version for answer in answers for migration in answer) == [1, 2, 3]
    assert await versions_of(database) == []


async def test_up_waits_for_whoever_has_the_lock(empty_database, database, tables, impatient, caplog):
    caplog.set_level("INFO")
    await database.execute(migrator._CREATE_TABLE)
    async with database.transaction():
        await database.execute("select pg_advisory_xact_lock($1)", migrator._LOCK)
        waiting = asyncio.create_task(Migrator(empty_database, tables.path).up())
        await eventually(lambda: "migration.waits migration='0001_step1'" in caplog.messages)
        assert await versions_of(database) == []
    assert len(await waiting) == 3


async def test_an_index_can_be_built_concurrently_while_others_wait_for_their_turn(
    empty_database, database, folder, impatient
):
    folder.add(1, "create table quarterdeck.a (x int); insert into quarterdeck.a select generate_series(1, 20000);")
    folder.add(2, "-- no-transaction\ncreate index concurrently a_x on quarterdeck.a (x);")
    async with asyncio.timeout(20):
        answers = await asyncio.gather(*(Migrator(empty_database, folder.path).up() for _ in range(8)))
    assert sorted(migration.version for answer in answers for migration in answer) == [1, 2]
    assert await database.fetchval("select indisvalid from pg_index where indexrelid = 'quarterdeck.a_x'::regclass")


# Locks of tables.


async def test_a_file_that_does_not_get_its_locks_gives_up_and_stands_in_nobody_s_way(
    empty_database, database, tables, impatient
):
    await Migrator(empty_database, tables.path).up()
    tables.add(4, "create table quarterdeck.d (); alter table quarterdeck.a add x int;")
    async with database.transaction():
        await database.execute("lock table quarterdeck.a in access share mode")
        with pytest.raises(MigrationError, match=r"0004_step4 did not get its locks in 2 attempts: .*lock timeout"):
            await Migrator(empty_database, tables.path, lock_timeout=0.05, attempts=2).up()
    assert await tables_of(database) == {"a", "b", "c"}


async def test_a_file_is_repeated_until_it_gets_its_locks(empty_database, database, tables, impatient, caplog):
    await Migrator(empty_database, tables.path).up()
    tables.add(4, "create table quarterdeck.d (); alter table quarterdeck.a add x int;")
    async with database.transaction():
        await database.execute("lock table quarterdeck.a in access share mode")
        applying = asyncio.create_task(Migrator(empty_database, tables.path, lock_timeout=0.05, attempts=1000).up())
        await eventually(lambda: any("migration.repeated" in message for message in caplog.messages))
    assert labels(await applying) == ["0004_step4"]
    assert await tables_of(database) == {"a", "b", "c", "d"}


# Files without a transaction.


async def test_statements_without_a_transaction_run_one_by_one(empty_database, database, folder):
    folder.add(
        1,
        "-- no-transaction\n-- First; of all:\ncreate table quarterdeck.a (x int);\n"
        "create index concurrently a_x on quarterdeck.a (x);\nvacuum quarterdeck.a;\n"
        "do $$ begin insert into quarterdeck.a values (1); commit; end $$;",
        "-- no-transaction\ndrop index concurrently quarterdeck.a_x;\ndrop table quarterdeck.a;",
    )
    current = Migrator(empty_database, folder.path)
    assert len(await current.up()) == 1
    assert await database.fetchval("select x from quarterdeck.a") == 1
    assert await versions_of(database) == [1]
    assert len(await current.down()) == 1
    assert await tables_of(database) == set()


async def test_a_file_without_a_transaction_that_failed_is_not_applied_and_runs_again(empty_database, database, folder):
    folder.add(1, "-- no-transaction\ncreate table if not exists quarterdeck.a ();\n\nselect wrong;")
    with pytest.raises(MigrationError, match=r'^0001_step1.up.sql, line 4: column "wrong" does not exist'):
        await Migrator(empty_database, folder.path).up()
    assert await tables_of(database) == {"a"}
    assert await versions_of(database) == []
    folder.add(1, "-- no-transaction\ncreate table if not exists quarterdeck.a ();\n\nselect 1;")
    assert len(await Migrator(empty_database, folder.path).up()) == 1
    assert await versions_of(database) == [1]


# Crashes.

RUN_UP = """
import asyncio, sys
from pathlib import Path
from quarterdeck.store.migrator import Migrator
asyncio.run(Migrator(sys.argv[1], Path(sys.argv[2])).up())
"""


@pytest.mark.parametrize("directive", ["", "-- no-transaction\n"])
async def test_a_process_killed_in_the_middle_of_a_file_leaves_what_another_can_finish(
    empty_database, database, folder, directive, impatient
):
    folder.add(1, "create table quarterdeck.gate ();")
    await Migrator(empty_database, folder.path).up()
    folder.add(2, f"{directive}create table if not exists quarterdeck.a ();\nalter table quarterdeck.gate add x int;")
    async with database.transaction():
        await database.execute("lock table quarterdeck.gate")
        process = subprocess.Popen([sys.executable, "-c", RUN_UP, empty_database, str(folder.path)])  # noqa: ASYNC220
        try:
            await eventually(somebody_waits(database), within=20)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert await versions_of(database) == [1]
    # The dead process's statement goes on until it finds nobody to answer to; without a transaction it even succeeds.
    folder.add(2, f"{directive}create table if not exists quarterdeck.a ();\nalter table quarterdeck.gate add y int;")
    assert labels(await Migrator(empty_database, folder.path).up()) == ["0002_step2"]
    assert await tables_of(database) == {"a", "gate"}
    assert await versions_of(database) == [1, 2]


async def test_a_connection_that_is_cut_in_the_middle_passes_and_leaves_no_trace(empty_database, database, tables):
    await Migrator(empty_database, tables.path).up()
    tables.add(4, "create table quarterdeck.d (); alter table quarterdeck.a add x int;")
    async with database.transaction():
        await database.execute("lock table quarterdeck.a")
        applying = asyncio.create_task(Migrator(empty_database, tables.path).up())
        await eventually(somebody_waits(database))
        await database.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and application_name = 'quarterdeck-migrator'"
        )
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)) as failed:
            await applying
    assert is_passing(failed.value)
    assert await tables_of(database) == {"a", "b", "c"}
    assert labels(await Migrator(empty_database, tables.path).up()) == ["0004_step4"]


@pytest.mark.parametrize("directive", ["", "-- no-transaction\n"])
async def test_a_cancelled_up_lets_go_of_its_locks(empty_database, database, tables, directive):
    await Migrator(empty_database, tables.path).up()
    tables.add(4, f"{directive}alter table quarterdeck.a add if not exists x int;")
    async with database.transaction():
        await database.execute("lock table quarterdeck.a")
        applying = asyncio.create_task(Migrator(empty_database, tables.path).up())
        await eventually(somebody_waits(database))
        applying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await applying
    assert labels(await Migrator(empty_database, tables.path).up()) == ["0004_step4"]
