"""The database, directly: what `qd migrate` works on, without a service."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from quarterdeck.cli.failures import told
from quarterdeck.config import Settings
from quarterdeck.store.embedded import EmbeddedPostgres
from quarterdeck.store.migrator import Migrator
from quarterdeck.telemetry.log import configure

T = TypeVar("T")


def on_database(settings: Settings, work: Callable[[Migrator], Awaitable[T]]) -> T:
    """What `work` gives for the database of these settings; an embedded one is started for it, or joined.

    Raises CommandError for whatever goes wrong.
    """
    configure("warning", settings.log_format)
    try:
        return asyncio.run(_work(settings, work))
    except Exception as error:
        raise told(error) from error


async def _work(settings: Settings, work: Callable[[Migrator], Awaitable[T]]) -> T:
    if settings.database_url != "embedded":
        return await work(Migrator(settings.database_url))
    embedded = EmbeddedPostgres(Path(settings.data_dir))
    await embedded.start()
    try:
        return await work(Migrator(embedded.dsn()))
    finally:
        await embedded.stop()
