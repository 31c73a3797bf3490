"""A service behind its HTTP interface, in the test's own loop and on a database of the test's own."""

import asyncio

import pytest

from quarterdeck.bootstrap import Runtime
from quarterdeck.config import Settings
from quarterdeck.web.app import create_app
from tests.contract.client import Client
from tests.support.handlers import plain_deck
from tests.support.running import worker_of
from tests.support.waiting import eventually


@pytest.fixture
def gate():
    """What jobs of the kind `hold` wait for."""
    return asyncio.Event()


@pytest.fixture
def deck(gate):
    return plain_deck(gate)


@pytest.fixture
def settings(database_url):
    return Settings(database_url=database_url, shutdown_grace=0)


@pytest.fixture
def runtime(settings, deck):
    return Runtime(settings, deck)


@pytest.fixture
async def client(runtime):
    """A client of a service that is ready."""
    app = create_app(runtime)
    async with app.test_app():
        await eventually(lambda: worker_of(runtime))
        yield Client(app)
