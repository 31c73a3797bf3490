"""What containers stand on, as processes: a PostgreSQL that asks for a password over TCP, and memcached."""

import urllib.parse

import asyncpg
import pytest

from quarterdeck.store.embedded import EmbeddedPostgres
from tests.containers.files import compose
from tests.containers.processes import make_app_directory
from tests.support.database import FAST_SETTINGS
from tests.support.memcached import MemcachedProcess
from tests.support.processes import free_port

SECRETS = {"QUARTERDECK_API_KEYS": "me:a-secret-of-some-length", "POSTGRES_PASSWORD": "p@ss:w/r?d#% '\"$&="}


class Database:
    """The stack's PostgreSQL: `port` on the loopback address."""

    def __init__(self, directory, service):
        made = service["environment"]
        self._user, self._database, self._password = (made[f"POSTGRES_{name}"] for name in ("USER", "DB", "PASSWORD"))
        self.port = free_port()
        options = dict(word.split("=") for word in service["command"] if "=" in word)
        settings = {**FAST_SETTINGS, **options, "listen_addresses": "127.0.0.1", "port": str(self.port)}
        self._server = EmbeddedPostgres(directory, settings=settings)
        self.environment = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGPASSWORD": self._password}
        secret = urllib.parse.quote(self._password, safe="")
        self.dsn = f"postgresql://{self._user}:{secret}@127.0.0.1:{self.port}/{self._database}"
        self._rules = directory / "cluster" / "pg_hba.conf"

    async def start(self):
        """Starts it, with a role, a database and rules like those of the image."""
        await self._server.start()
        connection = await asyncpg.connect(self._server.dsn("postgres"))
        password = await connection.fetchval("select quote_literal($1::text)", self._password)
        await connection.execute(f"create role {self._user} login superuser password {password}")
        await connection.execute(f"drop database if exists {self._database} (force)")
        await connection.execute(f"create database {self._database} owner {self._user}")
        self._rules.write_text(self._rules.read_text().replace("reject", "scram-sha-256"))
        await connection.execute("select pg_reload_conf()")
        await connection.close()

    async def connect(self, **options):
        """A connection over TCP, with the role's password unless another is given."""
        return await asyncpg.connect(self.dsn, ssl=False, **options)

    async def stop(self):
        """Stops it."""
        await self._server.stop()


@pytest.fixture
def stack():
    """The services of the compose file, with a password that has every awkward character."""
    return compose(SECRETS)["services"]


@pytest.fixture
def directory(tmp_path):
    """A directory with `app/`, the image's working directory."""
    make_app_directory(tmp_path)
    return tmp_path


@pytest.fixture
async def database(tmp_path, stack):
    """The stack's PostgreSQL, running."""
    made = Database(tmp_path / "postgres", stack["postgres"])
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


@pytest.fixture
def memcached(stack):
    """The stack's memcached, running with the stack's options."""
    program, *options = stack["memcached"]["command"]
    assert program == "memcached"
    with MemcachedProcess(*options) as running:
        yield running
