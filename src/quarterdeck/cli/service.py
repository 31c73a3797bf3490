"""The life of a service in a process of its own: what is checked first, and the order in which things stop."""

import asyncio
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from hypercorn.asyncio import serve
from hypercorn.config import Config

from quarterdeck.bootstrap import application, load_deck
from quarterdeck.cli import exits
from quarterdeck.cli.exits import CommandError
from quarterdeck.cli.failures import told
from quarterdeck.cli.listen import address_of, listen
from quarterdeck.cli.served_runtime import ServedRuntime
from quarterdeck.cli.server import load_config
from quarterdeck.cli.stopping import Stopping
from quarterdeck.config import ConfigError, Settings, is_loopback, parse_bind
from quarterdeck.deck import Quarterdeck
from quarterdeck.telemetry.log import configure, get_logger
from quarterdeck.version import __version__

log = get_logger(__name__)

LONGEST_FAREWELL = 3.5
"""Seconds that Hypercorn may take for the requests in it before the runtime stops without waiting for them."""
HTTP_END = 1.0
"""Seconds that Hypercorn may take once the runtime has stopped."""


def run_service(settings: Settings, server_file: Path | None, stopping: Stopping) -> int:
    """Serves until a signal or a failure, and returns the exit code.

    Raises CommandError and ConfigError where that cannot begin; nothing has been started then.
    """
    configure(settings.log_level, settings.log_format)
    config = load_config(server_file)
    deck = _load_deck(settings.app) if settings.app else None
    opened = listen(settings.bind, config.backlog)
    url = f"{'https' if config.ssl_enabled else 'http'}://{address_of(opened)}"
    config.bind = [f"fd://{opened.detach()}"]
    if settings.auth == "off" and not is_loopback(parse_bind(settings.bind)[0]):
        log.warning("auth.off", url=url, then="every machine that reaches this address may submit work")

    async def life() -> int:
        runtime = ServedRuntime(settings, deck)
        return await _serve(application(runtime), config, runtime, stopping, lambda: _ready(url, runtime))

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


def _ready(url: str, runtime: ServedRuntime) -> None:
    missing = {} if runtime.reached else {"database": "unavailable"}
    log.info("service.ready", url=url, role=runtime.settings.role, app=runtime.settings.app, **missing)
    if sys.stdout.isatty():
        click.echo(f"Quarterdeck {__version__} serves {url} (Ctrl-C stops it)")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not there on every platform
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(
    app: Any, config: Config, runtime: ServedRuntime, stopping: Stopping, ready: Callable[[], None]
) -> int:
    """Serves `app` until a signal or a failure, stops everything in order, and returns the exit code.

    `ready` is called once requests are answered.
    """
    asked = asyncio.Event()

    def on_signal(count: int) -> None:
        if count == 1:
            log.info("service.stops", grace=runtime.settings.shutdown_grace)
            runtime.drain()
            asked.set()
        else:
            log.warning("service.hurries")
            runtime.hurry()

    async def until_the_end() -> None:
        if not runtime.failed.is_set() and not asked.is_set():
            ready()
        await _first({asyncio.create_task(asked.wait()), asyncio.create_task(runtime.failed.wait())})
        if not asked.is_set():
            stopping.begin(_failed(runtime).exit_code)
            runtime.drain()
            asked.set()

    stopping.attach(runtime.settings.shutdown_grace, on_signal)
    serving = asyncio.create_task(serve(app, config, shutdown_trigger=until_the_end), name="hypercorn")
    try:
        await _first({serving, asyncio.create_task(asked.wait())}, keep={serving})
        # Hypercorn closes its connections before it lets the application stop, and may wait for them for ever.
        await asyncio.wait({serving}, timeout=min(config.graceful_timeout + 0.5, LONGEST_FAREWELL))
        await runtime.stop()
        await asyncio.wait({serving}, timeout=HTTP_END)
    finally:
        serving.cancel()
        await asyncio.wait({serving}, timeout=HTTP_END)
        await runtime.stop()
    return _exit_code(serving, runtime)


def _exit_code(serving: asyncio.Task[None], runtime: ServedRuntime) -> int:
    error: CommandError | None = None
    if runtime.failure is not None:
        error = _failed(runtime)
        if error.exit_code == exits.LOOP_DIED and not runtime.reached:
            log.critical("service.failed", exc_info=runtime.failure)  # of a loop, the engine has told that already
    elif serving.done() and not serving.cancelled() and (raised := serving.exception()) is not None:
        error = told(raised)
    if error is None:
        log.info("service.stopped")
        return exits.DONE
    click.echo(f"qd: {error.message}", err=True)
    return error.exit_code


def _failed(runtime: ServedRuntime) -> CommandError:
    failure = runtime.failure or RuntimeError("it does not say why")
    if not runtime.reached:
        return told(failure)
    words = f"{type(failure).__name__}: {exits.one_line(failure)}"
    return CommandError(f"an inner loop of the service died, see the log above ({words})", exits.LOOP_DIED)


async def _first(tasks: set[asyncio.Task[Any]], keep: set[asyncio.Task[Any]] | None = None) -> None:
    """Waits for one of the tasks, and ends the others but those to keep."""
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks - (keep or set()):
            task.cancel()
