"""quarterdeck.testing is of use with any test runner."""

import subprocess
import sys


def test_no_test_runner_is_imported():
    code = "import sys, quarterdeck.testing; sys.exit(({'pytest', '_pytest'} & {*sys.modules}) or 0)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
