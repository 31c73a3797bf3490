"""A container's command as a process: its environment, its user, a read-only root, and no engine."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.containers.files import REPOSITORY, final, image_environment
from tests.support.processes import LoggedProcess

BIN = Path(sys.executable).parent
PATH = f"{BIN}:/usr/bin:/bin"
"""The image's PATH begins with the environment's programs, too."""

SCRATCH = Path("/media")
"""Where a boxed command finds the one file system that it can write to, its own; a short path, as sockets need it."""

# Makes every file system read-only but for a fresh one at $1, and runs the rest as user 10001 without any capability.
# The user has a name, as in the image: initdb refuses one that has none.
_BOX = r"""
set -eu
scratch=$1; shift
while read -r _ where kind options _; do
    case "$kind" in proc | sysfs | cgroup* | dev* | mqueue | securityfs | debugfs | tracefs | bpf) continue ;; esac
    case "$where" in /dev/*) continue ;; esac
    kept=$(printf '%s' "$options" | tr ',' '\n' | grep -E '^(no(suid|dev|exec|atime|diratime)|relatime)$' | tr '\n' ',')
    mount -o "remount,bind,${kept}ro" "$where"
done </proc/self/mounts
mount -t tmpfs tmpfs "$scratch"
{ cat /etc/passwd; echo 'quarterdeck:x:10001:10001::/nonexistent:/bin/false'; } >"$scratch/passwd"
mount --bind "$scratch/passwd" /etc/passwd
mount -t tmpfs tmpfs "$scratch"
exec unshare --user --map-user=10001 --map-group=10001 -- "$@"
"""


def boxed(command: Sequence[str]) -> list[str]:
    """A command that can write below SCRATCH and nowhere else, as user 10001."""
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _BOX, "box", str(SCRATCH), *command]


@cache
def can_box() -> bool:
    """Whether this machine lets a process have mounts of its own."""
    return shutil.which("unshare") is not None and _succeeds("true")


def _succeeds(script: str) -> bool:
    return subprocess.run(boxed(["sh", "-c", script]), capture_output=True, check=False).returncode == 0


class Container(LoggedProcess):
    """A service of the compose file, or the image alone, running as a process."""

    def __init__(
        self, service: Mapping[str, Any], directory: Path, name: str, replaced: Mapping[str, str], *, box: bool
    ) -> None:
        """`replaced`: what stands for names and ports that only containers have."""
        command = [*final("ENTRYPOINT")[0].words, *service.get("command", final("CMD")[0].words)]
        command[0] = str(BIN / command[0])
        environment = {**image_environment(), **service.get("environment", {})}
        environment = {key: _replace(value, replaced) for key, value in environment.items()}
        environment |= {"PATH": PATH, "HOME": "/nonexistent", "TMPDIR": str(SCRATCH if box else directory)}
        log_file = directory / f"{name}.log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                boxed(command) if box else command,
                cwd=directory / "app",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        super().__init__(process, log_file)

    def stop(self, within: float) -> int:
        """Ends it as `docker stop` does, and waits; returns its exit code."""
        self._process.send_signal(getattr(signal, final("STOPSIGNAL")[0].words[0]))
        return self._process.wait(within)

    def kill(self) -> None:
        """Ends it at once, if it still runs."""
        self._process.kill()
        self._process.wait()


def make_app_directory(directory: Path) -> None:
    """What the image has in its working directory."""
    app = directory / "app"
    app.mkdir()
    for each in final("COPY"):
        if "from" in each.flags:
            continue
        for source in each.words[:-1]:
            path = REPOSITORY / source
            target = app / each.words[-1]
            if path.is_dir():
                shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, target)


def check_health(
    test: Sequence[str], replaced: Mapping[str, str], *, path: str = PATH, more: Mapping[str, str] | None = None
) -> int:
    """Runs a health command; returns its exit code. `more`: what the container's environment has beside the PATH."""
    kind, *command = test
    assert kind in ("CMD", "CMD-SHELL")
    if kind == "CMD-SHELL":
        command = ["sh", "-c", *command]
    command = [_replace(word, replaced) for word in command]
    program = shutil.which(command[0], path=path)
    assert program, f"{command[0]} is not in {path}"
    ran = subprocess.run(
        [program, *command[1:]],
        env={"PATH": path, **(more or {})},
        capture_output=True,
        timeout=40,
        check=False,
        cwd="/",
    )
    return ran.returncode


def _replace(text: str, replaced: Mapping[str, str]) -> str:
    for shown, real in replaced.items():
        text = text.replace(shown, real)
    return text


def postgres_programs() -> str:
    """The directory of PostgreSQL's own programs, for the PATH."""
    from quarterdeck.store.embedded import _find_programs  # noqa: PLC0415 - not needed by most

    return str(_find_programs())


def busybox(directory: Path) -> str:
    """A directory with the programs of an Alpine image that a health command may use; for the PATH."""
    program = shutil.which("busybox")
    assert program, "busybox is missing: scripts/system-packages installs it"
    directory.mkdir()
    for name in ("sh", "nc", "grep", "printf", "timeout"):
        (directory / name).symlink_to(program)
    return str(directory)
