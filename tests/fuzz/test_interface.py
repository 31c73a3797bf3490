"""Requests made up from the interface's description, good and bad, one by one and in sequences.

`make fuzz` tries more: SECONDS limits the time, EXAMPLES says how many requests are made up for a route in each phase.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]

EXAMPLES = os.environ.get("QD_FUZZ_EXAMPLES", "4")
SECONDS = float(os.environ.get("QD_FUZZ_SECONDS", "25"))
# In the suite the same requests are made up each time, so that a failure is somebody's change and not chance.
SEED = ("--seed", os.environ["QD_FUZZ_SEED"]) if "QD_FUZZ_SEED" in os.environ else ()
CHANCE = () if "QD_FUZZ_EXAMPLES" in os.environ else ("--generation-deterministic",)

pytestmark = pytest.mark.timeout(SECONDS + 60)


def test_whatever_is_asked_for_is_answered_as_described(service, tmp_path):
    """No 5xx, nothing over two seconds, every error a problem, every answer as its schema says."""
    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", HERE / "schemathesis.toml"),
            *("run", f"{service.url}/openapi.json", "--no-color", "--max-examples", EXAMPLES),
            *("--max-time", str(int(SECONDS)), *SEED, *CHANCE),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
    assert "Tested: " in run.stdout
