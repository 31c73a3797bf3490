import asyncio

import pytest

from tests.support.database import create_database, drop_database
from tests.support.interpreters import VERSIONS, required


@pytest.fixture(params=VERSIONS, ids=lambda version: f"python{version}")
def python(request):
    """An interpreter to run the service with: each that its end is tested on."""
    return required(request.param)


@pytest.fixture(scope="module")
def database(server):
    """The DSN of a database that the tests of a module share."""
    name = asyncio.run(create_database(server, migrated=True))
    yield server.database(name)
    asyncio.run(drop_database(server, name))
