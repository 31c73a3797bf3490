"""Each promise names a test that proves it, and that test is there."""

import re

import pytest

from tests.docs.documents import DOCS, REPOSITORY

GUARANTEES = DOCS / "explanation" / "guarantees.md"
PROOFS = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", GUARANTEES.read_text())


def test_promises_have_proofs():
    assert len(PROOFS) >= 10


@pytest.mark.parametrize(("path", "test"), PROOFS, ids=[test for _, test in PROOFS])
def test_a_proof_is_there(path, test):
    assert re.search(rf"^(async )?def {test}\(", (REPOSITORY / path).read_text(), re.MULTILINE)
