"""Fixtures for every test: a database of its own on a real PostgreSQL, and a check that nothing is left behind."""

import asyncio
import inspect
import signal
import traceback
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import msgspec
import pytest

from tests.support.database import TestServer, fresh_database, running_server
from tests.support.interpreters import missing
from tests.support.loops import CheckedLoop
from tests.support.tasks import no_task_left

SERVER = pytest.StashKey[TestServer | str]()
CLEANUP = pytest.StashKey[ExitStack]()
LONGEST = [Path(__file__).parent / name for name in ("e2e", "fuzz")]


def _server(config: pytest.Config) -> TestServer | str:
    """Start the session's server when it is first asked for, once, in the process that runs or hands out the tests.

    The answer is why there is none if it did not start: that fails the tests that need it, and no others.
    """
    if SERVER not in config.stash:
        config.stash[CLEANUP] = ExitStack()
        try:
            config.stash[SERVER] = config.stash[CLEANUP].enter_context(running_server())
        except Exception:  # noqa: BLE001 (whatever it was, the tests report it)
            config.stash[SERVER] = traceback.format_exc()
    return config.stash[SERVER]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """With pytest-xdist: the controller starts the one server that all its workers share."""
    node.workerinput["server"] = msgspec.to_builtins(_server(node.config))


def pytest_configure():
    """A run in the background ignores INT, and so would every process that a test starts and interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_asyncio_loop_factories():
    return {"checked": CheckedLoop}


def pytest_unconfigure(config):
    if CLEANUP in config.stash:
        config.stash[CLEANUP].close()


def pytest_terminal_summary(terminalreporter):
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    for version in missing(skipped):
        words = f"NOT TESTED on Python {version}: how the service stops. scripts/other-pythons says why."
        terminalreporter.write_line(words, yellow=True)


def pytest_collection_modifyitems(items):
    # The longest first: at the end, a worker that has nothing left takes short ones off the other.
    items.sort(key=lambda item: not any(map(item.path.is_relative_to, LONGEST)))
    for item in items:
        if inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.fixturenames.insert(0, "no_stray_task")


@pytest.fixture(scope="session")
def server(request) -> TestServer:
    worker_input = getattr(request.config, "workerinput", None)
    server = msgspec.convert(worker_input["server"], TestServer | str) if worker_input else _server(request.config)
    if isinstance(server, str):
        pytest.fail(f"the test server did not start:\n{server}", pytrace=False)
    return server


@pytest.fixture(scope="session")
def server_dsn(server) -> str:
    """A database to connect to for statements about the server itself."""
    return server.dsn


@pytest.fixture
async def no_stray_task():
    """Added to every async test: the tasks it starts, directly or in the code under test, end before it does."""
    before = asyncio.all_tasks()
    yield
    await no_task_left(before)


@pytest.fixture
async def database_url(server):
    """The DSN of a migrated database of this test's own."""
    async with fresh_database(server, migrated=True) as dsn:
        yield dsn


@pytest.fixture
async def empty_database(server):
    """The DSN of an empty database of this test's own."""
    async with fresh_database(server, migrated=False) as dsn:
        yield dsn


@pytest.fixture
async def connection(database_url):
    """A connection to `database_url`."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()
