"""The life of a service in a process of its own: what is checked first, and the order in which things stop."""

import asyncio
import os
import socket
import sysconfig
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click
import structlog
from hypercorn.asyncio import serve
from hypercorn.config import Config

from quarterdeck.bootstrap import application, load_deck
from quarterdeck.cli import exits
from quarterdeck.cli.announce import tell_ready, url_of, warn
from quarterdeck.cli.child import LEAVING, READY, Child
from quarterdeck.cli.child import MARGIN as CHILD_MARGIN
from quarterdeck.cli.connections import Connections
from quarterdeck.cli.exits import CommandError
from quarterdeck.cli.failures import told
from quarterdeck.cli.listen import listen
from quarterdeck.cli.served_runtime import ServedRuntime
from quarterdeck.cli.server import load_config
from quarterdeck.cli.stopping import STOP_MARGIN, Stopping
from quarterdeck.config import ConfigError, Settings
from quarterdeck.deck import Quarterdeck
from quarterdeck.telemetry.log import configure, get_logger

log = get_logger(__name__)

ALONE = ("service.stops", "service.hurries", "service.stopped")
ONE_OF_SEVERAL = ("process.stops", "process.hurries", "process.stopped")
LONGEST_FAREWELL = 3.5
"""Seconds that requests may take before the runtime stops without waiting for them."""
HTTP_END = 1.0
"""Seconds that Hypercorn may take once the runtime has stopped."""


def run_service(settings: Settings, server_file: Path | None, stopping: Stopping, child: Child | None = None) -> int:
    """Serves until a signal or a failure, and returns the exit code; `child` where others share the address.

    Raises CommandError and ConfigError where that cannot begin; nothing has been started then.
    """
    configure(settings.log_level, settings.log_format)
    config = load_config(server_file)
    deck = _load_deck(settings.app) if settings.app else None
    listener = listen(settings.bind, config.backlog) if child is None else child.listener
    config.bind = []  # what listens there is ours
    if child is None:
        warn(settings, url_of(listener, config))
    else:
        structlog.contextvars.bind_contextvars(pid=os.getpid())  # its lines stand among those of others

    async def life() -> int:
        runtime = ServedRuntime(settings, deck)
        service = _Service(runtime, config, listener, stopping, child)
        return await service.run()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        code = runner.run(life())
        stopping.finish(code)
    return code


def _load_deck(app: str) -> Quarterdeck:
    try:
        return load_deck(app)
    except ConfigError:
        raise
    except Exception as error:
        words = f"{type(error).__name__}: {exits.one_line(error)}{_place_in_user_code(error)}"
        raise CommandError(f"app {app!r} cannot be imported: {words}", exits.WRONG_USAGE) from error


def _place_in_user_code(error: BaseException) -> str:
    """Where an import failed, as far as that is in files of the user; a syntax error says its place itself."""
    foreign = ("<frozen", str(Path(__file__).parents[1]), *(sysconfig.get_path(name) for name in ("stdlib", "purelib")))
    places = [at for at in traceback.extract_tb(error.__traceback__) if not at.filename.startswith(foreign)]
    return f" ({places[-1].filename}, line {places[-1].lineno})" if places else ""


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not there on every platform
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


class _Service:
    """The order in which things start and stop in this process."""

    def __init__(
        self, runtime: ServedRuntime, config: Config, listener: socket.socket, stopping: Stopping, child: Child | None
    ) -> None:
        self._runtime = runtime
        self._config = config
        self._stopping = stopping
        self._child = child
        # Of a child the service is only a part.
        self._stops, self._hurries, self._stopped = ALONE if child is None else ONE_OF_SEVERAL
        self._url = url_of(listener, config)
        self._app = application(runtime)
        self._connections = Connections(self._app, config, listener)
        self._asked = asyncio.Event()
        self._over = asyncio.Event()

    async def run(self) -> int:
        """Serves until a signal or a failure, stops everything in order, and returns the exit code."""
        self._stopping.attach(
            self._runtime.settings.shutdown_grace, self._on_signal, STOP_MARGIN if self._child is None else CHILD_MARGIN
        )
        serving = asyncio.create_task(serve(self._app, self._config, shutdown_trigger=self._lifetime), name="hypercorn")
        try:
            await _first(serving, self._asked.wait(), self._runtime.failed.wait())
            await self._stop()
            await asyncio.wait({serving}, timeout=HTTP_END)
        finally:
            serving.cancel()
            await asyncio.wait({serving}, timeout=HTTP_END)
            await self._runtime.stop()
        code = _exit_code(serving, self._runtime)
        if code == exits.DONE:
            log.info(self._stopped)
        return code

    async def _lifetime(self) -> None:
        """Begins when the runtime has started, and ends when everything has stopped: Hypercorn asks for both."""
        if not self._runtime.failed.is_set() and not self._asked.is_set():
            await self._connections.open()
            self._tell_ready()
        await self._over.wait()

    async def _stop(self) -> None:
        if self._child is not None:
            self._child.tell(LEAVING)
        if self._runtime.failed.is_set() and not self._asked.is_set():
            self._stopping.begin(_failed(self._runtime).exit_code)
            self._asked.set()
        self._drain()
        if self._runtime.failed.is_set() and self._child is None:
            # Nobody else tells whoever asks that this process has failed, as long as jobs get their grace period.
            await self._runtime.stop()
        await self._connections.refuse()
        await self._connections.see_off(min(self._config.graceful_timeout + 0.5, LONGEST_FAREWELL))
        await self._runtime.stop()
        self._over.set()

    def _drain(self) -> None:
        self._connections.close_after_answers()  # first: a drain answers all long polls
        self._runtime.drain()

    def _on_signal(self, count: int) -> None:
        if not self._asked.is_set():
            log.info(self._stops, grace=self._runtime.settings.shutdown_grace)
            self._drain()
            self._asked.set()
        if count > 1:
            log.warning(self._hurries)
            self._runtime.hurry()

    def _tell_ready(self) -> None:
        missing = {} if self._runtime.reached else {"database": "unavailable"}
        if self._child is None:
            tell_ready(self._url, self._runtime.settings, **missing)
        else:
            self._child.tell(READY)


def _exit_code(serving: asyncio.Task[None], runtime: ServedRuntime) -> int:
    error: CommandError | None = None
    if runtime.failure is not None:
        error = _failed(runtime)
        if error.exit_code == exits.LOOP_DIED and not runtime.reached:
            log.critical("service.failed", exc_info=runtime.failure)  # of a loop, the engine has told that already
    elif serving.done() and not serving.cancelled() and (raised := serving.exception()) is not None:
        error = told(raised)
    if error is None:
        return exits.DONE
    click.echo(f"qd: {error.message}", err=True)
    return error.exit_code


def _failed(runtime: ServedRuntime) -> CommandError:
    failure = runtime.failure or RuntimeError("it does not say why")
    if not runtime.reached:
        return told(failure)
    words = f"{type(failure).__name__}: {exits.one_line(failure)}"
    return CommandError(f"an inner loop of the service died, see the log above ({words})", exits.LOOP_DIED)


async def _first(serving: asyncio.Task[None], *others: Coroutine[Any, Any, Any]) -> None:
    """Waits for one of these, and ends the others but not `serving`."""
    tasks = [asyncio.create_task(other) for other in others]
    try:
        await asyncio.wait({serving, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
