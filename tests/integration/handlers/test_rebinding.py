"""Names that change their addresses between the check and the call, with a real name server over UDP (S10)."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.support.processes import REPOSITORY

CALLS = int(os.environ.get("QD_TEST_REBINDINGS", "200"))
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "--net"]


def namespaces_can_be_had():
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.timeout(60 + CALLS / 20)
@pytest.mark.parametrize(
    "own_network",
    [
        False,
        pytest.param(
            True, marks=pytest.mark.skipif(not namespaces_can_be_had(), reason="a network namespace is needed")
        ),
    ],
    ids=["with the system's resolver stood in for", "through the system's resolver"],
)
def test_a_name_server_that_changes_its_mind_leads_no_call_to_loopback(own_network):
    rebinding = [sys.executable, "-m", "tests.support.rebinding", str(CALLS)]
    command = [*NAMESPACE, *rebinding, "--own-network"] if own_network else rebinding
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    came = json.loads(done.stdout)
    assert came["loopback"] == [0, 0]
    assert set(came["ends"]) == {"answered", "refused"}
    assert came["ends"]["answered"] == came["public"] > CALLS // 8
    assert sum(came["ends"].values()) == CALLS
    # Once a call: a second look-up could say something else.
    assert (came["asked"]["turn"], came["asked"]["both"]) == (CALLS // 2, CALLS // 4)
