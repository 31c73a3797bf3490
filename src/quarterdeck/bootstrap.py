"""The only place that wires everything: settings and a deck become a running service."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from quarterdeck.config import ConfigError, Settings, parse_targets
from quarterdeck.deck import Quarterdeck
from quarterdeck.domain.errors import Unavailable
from quarterdeck.engine.bus import Bus
from quarterdeck.engine.exposition import Exposition
from quarterdeck.engine.parts import Parts
from quarterdeck.engine.registry import Registry
from quarterdeck.engine.resources import ResourceFailure, Resources
from quarterdeck.engine.service import Engine
from quarterdeck.engine.tasks import Backoff
from quarterdeck.handlers import Outbound, built_in
from quarterdeck.store import pool
from quarterdeck.store.cache import Cache, open_cache
from quarterdeck.store.embedded import EmbeddedPostgres
from quarterdeck.store.migrator import Migrator
from quarterdeck.store.postgres_bus import PostgresBus
from quarterdeck.store.redis_bus import RedisBus
from quarterdeck.telemetry.log import get_logger
from quarterdeck.telemetry.metrics import Format, Metrics
from quarterdeck.version import __version__
from quarterdeck.web.app import create_app

log = get_logger(__name__)

API_CONNECTIONS = 5
WORK_CONNECTIONS = 5
COMMAND_TIMEOUT = 4.0
"""Seconds one statement may take."""


def load_deck(app: str) -> Quarterdeck:
    """The deck that `module:attribute` names. Raises ConfigError where there is none."""
    module_name, _, attribute = app.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise
        raise ConfigError(f"app {app!r}: there is no module {error.name!r} here or on the Python path") from None
    deck = getattr(module, attribute, None)
    if not isinstance(deck, Quarterdeck):
        raise ConfigError(f"app {app!r}: {attribute!r} is not a Quarterdeck object of module {module_name!r}")
    return deck


application = create_app
"""Makes the ASGI application that serves a Runtime, which starts and stops with it. Raises ConfigError."""


class Runtime:
    """A service: its database, its engine, and their life.

    `start` returns as soon as requests can be answered. Where the database cannot be reached it keeps trying in the
    background, and until then every call raises Unavailable.
    """

    def __init__(self, settings: Settings, deck: Quarterdeck | None = None) -> None:
        self.settings = settings
        self.failure: BaseException | None = None
        self.failed = asyncio.Event()
        self.metrics = Metrics(__version__)
        self._exposition = Exposition(self.metrics)
        self._deck = deck or Quarterdeck()
        self._outbound = Outbound(parse_targets(settings.allow_private_targets), max_connections=settings.concurrency)
        self._registry = Registry([*built_in(self._outbound), *self._deck.handlers])
        makers = self._deck.resource_makers if settings.role != "web" else {}
        self._resources = Resources(self._deck.resources, makers)
        self._engine: Engine | None = None
        self._embedded: EmbeddedPostgres | None = None
        self._pools: list[pool.Pool] = []
        self._cache: Cache | None = None
        self._boot: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._draining = False

    @property
    def engine(self) -> Engine:
        """The running engine. Raises Unavailable until there is one."""
        if self._engine is None:
            raise Unavailable("the service has not reached its database yet")
        return self._engine

    @property
    def draining(self) -> bool:
        """Whether a stop has begun."""
        return self._draining

    async def metrics_text(self, format: Format) -> bytes:  # noqa: A002 - what it is
        """All metrics as text, at most a second old, whether or not there is an engine."""
        return await self._exposition.text(format, None if self._engine is None else self._engine.readings)

    async def start(self) -> None:
        """Starts the embedded database where that is asked for, migrates, and starts the engine.

        What the deck's handlers share is opened before the engine starts.

        Raises EmbeddedError, MigrationError (a database ahead, behind or drifted), ConfigError.
        """
        dsn = await self._start_database()
        try:
            await self._open_resources()
            await self._start_engine(dsn)
        except Exception as error:
            if not pool.is_passing(error):
                await self.stop()
                raise
            log.warning("database.unreachable", error=_in_words(error), then="trying again in the background")
            self._boot = asyncio.create_task(self._keep_trying(dsn), name="quarterdeck-boot")

    def drain(self) -> None:
        """Begins to stop: no claims, long polls end."""
        self._draining = True
        if self._engine is not None:
            self._engine.drain()

    def hurry(self) -> None:
        """Ends the grace period of a stop."""
        if self._engine is not None:
            self._engine.hurry()

    async def stop(self, grace: float | None = None) -> None:
        """Stops in order: the engine (see Engine.stop), resources, pools, the embedded database. Idempotent."""
        self._draining = True
        for task in (self._boot, self._watch):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        try:
            if self._engine is not None:
                self._deck.attach(None)
                await self._engine.stop(self.settings.shutdown_grace if grace is None else grace)
        finally:
            await self._outbound.close()
            await self._resources.close()
            await self._close_pools()
            if self._embedded is not None:
                embedded, self._embedded = self._embedded, None
                await embedded.stop()

    async def _start_database(self) -> str:
        if self.settings.database_url != "embedded":
            return self.settings.database_url
        self._embedded = EmbeddedPostgres(Path(self.settings.data_dir))
        await self._embedded.start()
        return self._embedded.dsn()

    async def _open_resources(self) -> None:
        try:
            await self._resources.open()
        except ResourceFailure as failure:
            raise ConfigError(str(failure)) from failure.__cause__

    async def _start_engine(self, dsn: str) -> None:
        await Migrator(dsn).prepare(apply=self.settings.migrate)
        api = await self._open_pool(dsn, pool.API, API_CONNECTIONS)
        self._cache = await open_cache(self.settings.memcached, api, self.metrics)
        parts = Parts(
            self.settings,
            self._registry,
            api=api,
            work=await self._open_pool(dsn, "engine", WORK_CONNECTIONS),
            dsn=dsn,
            bus=_bus(self.settings.bus, dsn),
            cache=self._cache,
            resources=self._deck.resources,
            version=__version__,
            meter=self.metrics,
        )
        engine = Engine(parts)
        try:
            await engine.start()
        except BaseException:  # a stop in the middle of the start, too
            await _to_its_end(engine.stop(0))
            raise
        self._engine = engine
        self._deck.attach(engine)
        self._watch = asyncio.create_task(self._watch_engine(engine), name="quarterdeck-watch")

    async def _open_pool(self, dsn: str, name: str, size: int) -> pool.Pool:
        opened = await pool.open_pool(dsn, name=name, size=size, command_timeout=COMMAND_TIMEOUT)
        self._pools.append(opened)
        return opened

    async def _keep_trying(self, dsn: str) -> None:
        backoff = Backoff(first=0.5, cap=5.0)
        while True:
            await backoff.pause()
            try:
                await self._start_engine(dsn)
            except Exception as error:  # noqa: BLE001 - whatever it is ends in `failure`
                await self._close_pools()
                if not pool.is_passing(error):
                    log.critical("service.failed", error=_in_words(error))
                    self._fail(error)
                    return
                log.warning("database.unreachable", error=_in_words(error))
            else:
                log.info("database.reached")
                return

    async def _watch_engine(self, engine: Engine) -> None:
        self._fail(await engine.death())

    def _fail(self, error: BaseException) -> None:
        self.failure = error
        self.failed.set()

    async def _close_pools(self) -> None:
        if self._cache is not None:
            await self._cache.close()
            self._cache = None
        for opened in self._pools:
            await pool.close_pool(opened)
        self._pools.clear()


def _bus(setting: str, dsn: str) -> Bus | None:
    """How this process tells others. Raises ConfigError."""
    if setting == "off":
        return None
    return PostgresBus(dsn) if setting == "postgres" else RedisBus(setting)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Waits for `work`, also where the waiting is cancelled."""
    task = asyncio.create_task(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    task.result()


def _in_words(error: BaseException) -> str:
    return str(error) or type(error).__name__
