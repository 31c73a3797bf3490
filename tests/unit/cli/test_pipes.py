"""What a command prints may find no reader, or no room: real processes in real pipes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import REPOSITORY, service_environment


def in_bash(script):
    environment = service_environment({})
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return subprocess.run(
        ["bash", "-c", script], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("command", ["qd --help", "qd config show", "qd config show --json"])
def test_a_reader_that_has_seen_enough_ends_a_command_without_a_word(command):
    done = in_bash(f"{command} | true; echo ${{PIPESTATUS[0]}}")
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is needed")
@pytest.mark.parametrize("command", ["qd config show", "qd config show --json"])
def test_a_full_disk_is_told(command):
    done = in_bash(f"{command} > /dev/full")
    assert (done.returncode, done.stderr) == (2, "qd: the output cannot be written: No space left on device\n")


def test_a_terminal_that_does_not_know_a_character_gets_its_escape():
    done = in_bash("PYTHONIOENCODING=ascii qd config show --config <(echo 'app = \"é:deck\"')")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xe9:deck" in done.stdout
