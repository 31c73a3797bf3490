"""`qd` as its users run it: a process with arguments, an environment and an exit code."""

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

from tests.support.processes import REPOSITORY, service_environment

WITHIN = 50.0
"""Seconds that a command may take."""


def qd(
    *arguments: str,
    settings: Mapping[str, str] | None = None,
    cwd: Path = REPOSITORY,
    stdin: str = "",
    within: float = WITHIN,
) -> subprocess.CompletedProcess[str]:
    """Run `qd` with `arguments` to its end; `settings` are environment variables (`QUARTERDECK_…`)."""
    return subprocess.run(
        [sys.executable, "-m", "quarterdeck", *arguments],
        cwd=cwd,
        env=service_environment(settings or {}),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )


def qd_inside(*arguments: str, settings: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The same without a process of its own, for what a process adds nothing to but the time of its start."""
    from quarterdeck.cli.main import run  # noqa: PLC0415 - most who run commands run processes

    printed = (io.BytesIO(), io.BytesIO())
    out, err = (io.TextIOWrapper(stream, encoding="utf-8", write_through=True) for stream in printed)
    environment = service_environment(settings or {})
    with mock.patch.dict(os.environ, environment, clear=True), redirect_stdout(out), redirect_stderr(err):
        code = run(list(arguments))
    return subprocess.CompletedProcess(["qd", *arguments], code, *(stream.getvalue().decode() for stream in printed))


def start_qd(
    *arguments: str, settings: Mapping[str, str] | None = None, cwd: Path = REPOSITORY
) -> subprocess.Popen[str]:
    """Start `qd` with `arguments` and return at once; its output comes by pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "quarterdeck", *arguments],
        cwd=cwd,
        env=service_environment(settings or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C in the terminal of the tests is not meant for it
    )


def process_exists(pid: int) -> bool:
    """Whether a process of that id runs; one that has ended and was not yet waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def postmaster_of(data_dir: Path) -> int:
    """The process id of the embedded server in `data_dir`, which must be running."""
    lines = (data_dir / "cluster" / "postmaster.pid").read_text().splitlines()
    assert lines, "the file is there, and nothing is in it yet"
    return int(lines[0])


def is_root() -> bool:
    """Whether file permissions bind this process."""
    return os.geteuid() == 0
