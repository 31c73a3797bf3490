"""One service for all of these tests, in a process of its own, on a database of its own."""

import asyncio

import httpx
import pytest

from tests.support.database import create_database, drop_database
from tests.support.processes import cleaned_up, start_service


@pytest.fixture(scope="module")
def service(server, tmp_path_factory):
    name = asyncio.run(create_database(server, migrated=True))
    settings = {"QUARTERDECK_DATABASE_URL": server.database(name), "QUARTERDECK_SHUTDOWN_GRACE": "0"}
    directory = tmp_path_factory.mktemp("fuzz")
    try:
        with cleaned_up(start_service(directory, "tests.fuzz.deck:deck", settings=settings)) as started:
            asyncio.run(started.wait_until_ready())
            yield started
            asyncio.run(started.stop())
            assert '"level":"error"' not in started.log()
    finally:
        asyncio.run(drop_database(server, name))


@pytest.fixture(scope="module")
def http(service):
    with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as client:
        yield client
