"""The soak's ledger: what a handler did is written down however it ended."""

import asyncio
import types

import pytest

from tests.soak import ledger
from tests.unit.soak.histories import job


@pytest.fixture
def book(tmp_path, monkeypatch):
    monkeypatch.setenv(ledger.DIRECTORY, str(tmp_path))
    return ledger.Ledger()


CTX = types.SimpleNamespace(job=types.SimpleNamespace(id=job(1), seq=2, attempt=1, worker="w"))


def written(directory):
    return [(line.job_id, line.seq, line.what) for line in ledger.read(directory)]


def test_a_handler_that_returns_writes_its_result_last(book, tmp_path):
    with book.execution(CTX) as account:
        account.write("step")
        result = account.end(number=7)
    lines = ledger.read(tmp_path)
    assert [line.what for line in lines] == ["start", "step", "end"]
    assert lines[-1].result == result
    assert (result["number"], result["seq"]) == (7, 2)


@pytest.mark.parametrize(
    ("error", "last"), [(ValueError, "raised"), (asyncio.CancelledError, "stopped"), (TimeoutError, "raised")]
)
def test_a_handler_that_raises_writes_how(book, tmp_path, error, last):
    with pytest.raises(error), book.execution(CTX):
        raise error
    assert written(tmp_path) == [(job(1), 2, "start"), (job(1), 2, last)]


def test_what_is_closed_is_not_closed_again(book, tmp_path):
    def stopped_too_late():
        with book.execution(CTX) as account:
            account.end()
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        stopped_too_late()
    assert [what for _, _, what in written(tmp_path)] == ["start", "end"]


def test_lines_of_all_processes_come_in_order_of_time(book, tmp_path):
    with book.execution(CTX):
        (tmp_path / "1.ledger").write_text(f'["{job(2)}",5,"start",1,1]\n')
    assert [line.job_id for line in ledger.read(tmp_path)] == [job(2), job(1)]
