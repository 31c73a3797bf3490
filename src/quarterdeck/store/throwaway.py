"""Throwaway: databases that exist for one test each."""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from quarterdeck.store.migrator import Migrator


class Throwaway:
    """Makes databases on a server, each a copy of one that was migrated once, and drops them.

    Names begin with `quarterdeck_test_`; nothing else on the server is touched.
    """

    def __init__(self, dsn: str) -> None:
        """`dsn` is any database of the server, for a role that may create databases."""
        self._dsn = dsn
        self._prefix = f"quarterdeck_test_{secrets.token_hex(4)}"
        self._count = 0

    async def open(self) -> None:
        """Makes the database that the others are copied from. Raises what asyncpg and the migrator raise."""
        await self._execute(f"create database {self._template}")
        await Migrator(self._url(self._template)).up()

    async def create(self) -> str:
        """Makes a database; returns its URL."""
        self._count += 1
        name = f"{self._prefix}_{self._count}"
        # A copy of the files takes a third of the time that writing their pages as log takes.
        await self._execute(f"create database {name} template {self._template} strategy file_copy")
        return self._url(name)

    async def drop(self, url: str) -> None:
        """Drops a database that `create` made, and cuts whoever is still connected to it."""
        await self._execute(f"drop database if exists {urlsplit(url).path.lstrip('/')} (force)")

    async def close(self) -> None:
        """Drops what the others were copied from."""
        await self.drop(self._url(self._template))

    @property
    def _template(self) -> str:
        return f"{self._prefix}_template"

    def _url(self, name: str) -> str:
        return urlunsplit(urlsplit(self._dsn)._replace(path=f"/{name}"))

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()
