"""The Pythons that what depends on the interpreter, such as the way processes stop, is tested on."""

import sys
from functools import cache
from pathlib import Path

import pytest

from tests.support.processes import REPOSITORY

VERSIONS = ("3.11", "3.13")
"""`scripts/other-pythons` has the same."""

_SKIPPED = "Python {} is not here"


@cache
def interpreter(version: str) -> Path | None:
    """A Python of that version with everything the service needs; None where there is none."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return Path(sys.executable)
    venv = REPOSITORY / ".tools" / f"venv-{version}"
    return venv / "bin" / "python" if (venv / ".ready").exists() else None


def required(version: str) -> Path:
    """As `interpreter`; a test that needs one that is not there is skipped."""
    found = interpreter(version)
    if found is None:
        pytest.skip(_SKIPPED.format(version))
    return found


def missing(skipped: list[str]) -> list[str]:
    """The versions that were missed, by the reasons of all skips."""
    return [version for version in VERSIONS if any(_SKIPPED.format(version) in reason for reason in skipped)]
