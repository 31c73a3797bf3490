"""Supervisor: several processes that serve one address, as `qd serve --workers N` starts them.

The parent takes the socket and starts the embedded database; it serves nothing itself and loads no handlers. Children
are the same command started afresh, so that HUP, which replaces them one by one, takes up what has changed: the code,
the settings in the file.
"""

import asyncio
import contextlib
import signal
import socket
from pathlib import Path
from types import FrameType

import click

from quarterdeck.cli import exits
from quarterdeck.cli.announce import tell_ready, url_of, warn
from quarterdeck.cli.child import MARGIN
from quarterdeck.cli.children import ChildProcess
from quarterdeck.cli.exits import CommandError
from quarterdeck.cli.failures import told
from quarterdeck.cli.listen import listen
from quarterdeck.cli.places import Place
from quarterdeck.cli.server import load_config
from quarterdeck.cli.stopping import Stopping
from quarterdeck.config import ConfigError, Settings
from quarterdeck.store import pool
from quarterdeck.store.embedded import EmbeddedPostgres
from quarterdeck.store.migrator import Migrator
from quarterdeck.telemetry.log import configure, get_logger

log = get_logger(__name__)

KILL_MARGIN = MARGIN + 0.5
"""Seconds after the grace period when children that are left are killed."""
LAST_MARGIN = KILL_MARGIN + 1.0
"""Seconds after the grace period by which the parent is over: the embedded database stops when all others have."""
EMBEDDED_WORKERS = 16
"""Children that the embedded server has connections for, one more among them while they are replaced."""
HOPELESS = (exits.WRONG_USAGE, exits.WRONG_SCHEMA)
"""What a child says that no second try would change."""
TRIES = 5
"""Starts in a row that may fail before anybody has served."""


class Supervisor:
    """Keeps `settings.workers` children on one listening socket."""

    def __init__(self, settings: Settings, listener: socket.socket, stopping: Stopping, url: str) -> None:
        self._settings = settings
        self._listener = listener
        self._stopping = stopping
        self._url = url
        self._embedded: EmbeddedPostgres | None = None
        self._children: set[ChildProcess] = set()
        self._places = [Place(self._start, self._on_failure) for _ in range(settings.workers)]
        self._failures = 0
        self._failure: CommandError | None = None
        self._asked = asyncio.Event()
        self._rolls = asyncio.Event()
        self._hurried = False
        self._limit: asyncio.Timeout | None = None

    async def run(self) -> int:
        """Serves until a signal, or until nothing can be served, and returns the exit code."""
        loop = asyncio.get_running_loop()
        self._stopping.attach(self._settings.shutdown_grace, self._on_signal, LAST_MARGIN)

        def on_hangup(_number: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._rolls.set)

        signal.signal(signal.SIGHUP, on_hangup)
        work = asyncio.create_task(self._serve(), name="serve")
        asked = asyncio.create_task(self._asked.wait())
        try:
            await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
            if work.done() or self._failure is not None:
                self._stopping.begin(self._failed(work).exit_code)
        finally:
            for task in (work, asked):
                task.cancel()
            await asyncio.wait({work, asked})
            self._listener.close()
            await self._end_children()
            if self._embedded is not None:
                await self._embedded.stop()
        return self._exit_code(work)

    async def _serve(self) -> None:
        await self._prepare_database()
        async with asyncio.TaskGroup() as tasks:
            first, *others = self._places
            # What is wrong with all of them is told by one.
            tasks.create_task(first.keep())
            await first.filled.wait()
            tell_ready(self._url, self._settings, workers=self._settings.workers)
            for place in others:
                tasks.create_task(place.keep())
            while True:
                await self._rolls.wait()
                self._rolls.clear()
                await self._roll()

    async def _prepare_database(self) -> None:
        dsn = self._settings.database_url
        if dsn == "embedded":
            self._embedded = EmbeddedPostgres(Path(self._settings.data_dir))
            await self._embedded.start()
            dsn = self._embedded.dsn()
        try:
            await Migrator(dsn).prepare(apply=self._settings.migrate)
        except Exception as error:
            if not pool.is_passing(error):
                raise
            log.warning("database.unreachable", error=exits.one_line(error), then="each process tries again")

    async def _roll(self) -> None:
        log.info("service.rolls", workers=self._settings.workers)
        for number, place in enumerate(self._places):
            if not await place.renew():
                log.error("service.roll_failed", replaced=number, then="the others go on as they are")
                return
        log.info("service.rolled")

    async def _start(self) -> ChildProcess:
        child = await ChildProcess.start(self._listener)
        self._children = {child, *self._alive()}
        return child

    def _alive(self) -> set[ChildProcess]:
        return {child for child in self._children if child.exit_code is None}

    def _on_failure(self, child: ChildProcess | None) -> None:
        code = None if child is None else child.exit_code
        if code == exits.DONE or any(each.child is not None and each.child.serves for each in self._places):
            return  # it was told to stop; or the others go on
        self._failures += 1
        served = any(place.filled.is_set() for place in self._places)
        if code in HOPELESS or (not served and self._failures >= TRIES):
            code = code if code is not None and code > 0 else exits.LOOP_DIED
            self._failure = CommandError("no process of the service can start, see above", code)
            self._asked.set()

    def _on_signal(self, count: int) -> None:
        if not self._asked.is_set():
            log.info("service.stops", grace=self._settings.shutdown_grace)
            self._asked.set()
        if count > 1:
            log.warning("service.hurries")
            self._hurried = True
            for child in self._alive():
                child.stop(hurry=True)
            if self._limit is not None:
                self._bound(KILL_MARGIN)

    async def _end_children(self) -> None:
        for child in self._alive():
            child.stop(hurry=self._hurried)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as self._limit:
                self._bound(KILL_MARGIN + (0.0 if self._hurried else self._settings.shutdown_grace))
                for child in self._alive():
                    await child.ends()
        self._limit = None
        for child in self._alive():
            log.error("process.killed", pid=child.pid)
            child.kill()
            await child.ends()

    def _bound(self, seconds: float) -> None:
        """Leaves the children no more than that to end."""
        if self._limit is not None:
            latest = asyncio.get_running_loop().time() + seconds
            self._limit.reschedule(min(latest, self._limit.when() or latest))

    def _exit_code(self, work: asyncio.Task[None]) -> int:
        if self._failure is None and (work.cancelled() or work.exception() is None):
            log.info("service.stopped")
            return exits.DONE
        error = self._failed(work)
        click.echo(f"qd: {error.message}", err=True)
        return error.exit_code

    def _failed(self, work: asyncio.Task[None]) -> CommandError:
        raised = None if work.cancelled() or not work.done() else work.exception()
        if raised is not None and self._failure is None:
            self._failure = told(raised)
            if self._failure.exit_code == exits.LOOP_DIED:
                log.critical("service.failed", exc_info=raised)
        return self._failure or CommandError("the service ended by itself", exits.LOOP_DIED)


def run_supervisor(settings: Settings, server_file: Path | None, stopping: Stopping) -> int:
    """Serves with several processes until a signal, and returns the exit code.

    Raises CommandError and ConfigError where that cannot begin; nothing has been started then.
    """
    configure(settings.log_level, settings.log_format)
    config = load_config(server_file)
    if settings.database_url == "embedded" and settings.workers > EMBEDDED_WORKERS:
        raise ConfigError(
            f"workers = {settings.workers}: the embedded server has connections for {EMBEDDED_WORKERS}; name a"
            " PostgreSQL of your own (QUARTERDECK_DATABASE_URL) for more"
        )
    if config.insecure_bind or config.quic_bind:
        raise ConfigError("insecure_bind and quic_bind of Hypercorn's file cannot be shared by several workers")
    listener = listen(settings.bind, config.backlog)
    url = url_of(listener, config)
    warn(settings, url)
    supervise = Supervisor(settings, listener, stopping, url).run
    code = asyncio.run(supervise())
    stopping.finish(code)
    return code
