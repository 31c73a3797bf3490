"""The benchmarks run, count every job, and write what `compare.py` reads. How fast they are is not looked at."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from benchmarks.callers import Plan, Target, call, shares
from benchmarks.cases import CASES, COMPARISONS, chosen
from benchmarks.report import Latency, Report

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(120)  # a run of everything starts a dozen processes
FIGURES = [name for case in CASES for name in case.names]


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=100
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of everything at its smallest: its process, and the file it wrote."""
    file = tmp_path_factory.mktemp("bench") / "run.json"
    return run("-m", "benchmarks", "--scale", "0.001", "--rounds", "2", "--json", file), file


@pytest.fixture(scope="module")
def report(finished):
    process, file = finished
    assert process.returncode == 0, process.stderr
    return msgspec.json.decode(file.read_bytes(), type=Report)


def test_every_figure_is_measured_in_every_round(report):
    assert [figure.name for figure in report.figures] == FIGURES
    for figure in report.figures:
        assert len(figure.rate.rounds) == len(figure.cpu_us.rounds) == report.rounds == 2
        assert 0 < figure.rate.min <= figure.rate.median <= figure.rate.max


def test_every_statement_and_call_is_timed(report):
    steps = {figure.name: {step: each.count for step, each in figure.latency_ms.items()} for figure in report.figures}
    # 20 jobs, twice; the last claim of each round finds nothing.
    assert steps["floor/insert/1"] == {"insert_jobs": 40}
    assert steps["floor/claim/10"] == {"claim_jobs": 6}
    assert steps["floor/finish/100"] == {"finish_jobs": 2}
    assert steps["floor/claim+finish/10"] == {"claim_jobs": 6, "finish_jobs": 4}
    assert steps["floor/hand-off/10"] == {"insert_jobs": 4, "finish_jobs": 4}
    assert steps["engine/submit"] == steps["engine/submit+run"] == {"submit": 40}
    assert steps["engine/latency"] == {"submit": 40, "submit to result": 40}
    assert steps["http/echo"] == steps["http/submit"] == {"request": 40}
    assert all(0 < each.p50 <= each.p99 for figure in report.figures for each in figure.latency_ms.values())


def test_the_engine_is_set_against_the_floor_of_the_same_round(report):
    rates = {figure.name: figure.rate.rounds for figure in report.figures}
    assert [(ratio.figure, ratio.over, ratio.bar) for ratio in report.ratios] == [tuple(each) for each in COMPARISONS]
    for ratio in report.ratios:
        expected = [a / b for a, b in zip(rates[ratio.figure], rates[ratio.over], strict=True)]
        assert ratio.ratio.rounds == pytest.approx(expected, abs=0.001)


def test_the_database_commits_to_the_disk(report):
    assert report.machine.settings["fsync"] == report.machine.settings["synchronous_commit"] == "on"


def test_the_tables_name_every_figure_and_the_bar(finished, report):
    printed = finished[0].stdout
    assert [name for name in FIGURES if name not in printed] == []
    for comparison in COMPARISONS:
        (line,) = [line for line in printed.splitlines() if line.strip().startswith(f"{comparison.figure} :")]
        assert comparison.bar is None or f" {comparison.bar:g} " in line
    assert report.machine.postgresql in printed


def test_a_run_compared_with_itself_is_all_ones(finished, report):
    compared = run("benchmarks/compare.py", finished[1], finished[1])
    assert compared.returncode == 0, compared.stderr
    lines = [
        line.split() for line in compared.stdout.splitlines() if line.strip().startswith(("floor/", "engine/", "http/"))
    ]
    assert len(lines) == len(report.figures) + len(report.ratios)
    assert {word for line in lines for word in line if word.startswith("~")} == {"~1.00"}


def test_a_run_that_is_told_to_stop_leaves_no_server_and_no_files(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "--only", "floor", "--scale", "50", "--dir", str(tmp_path)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (pids := list(tmp_path.glob("*/cluster/postmaster.pid"))) or "ready" not in pids[0].read_text():
            assert process.poll() is None
            time.sleep(0.01)
        server = int(pids[0].read_text().split()[0])
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 1
    assert not psutil.pid_exists(server)
    assert list(tmp_path.iterdir()) == []


def test_a_chosen_figure_brings_the_one_it_is_set_against():
    assert [name for case in chosen(["drain"], 1) for name in case.names] == ["floor/claim+finish/100", "engine/drain"]


@pytest.mark.parametrize(("whole", "parts", "found"), [(20, 6, [3, 3, 4, 3, 3, 4]), (2, 6, [1, 1]), (1, 1, [1])])
def test_requests_are_split_into_equal_shares_none_of_them_empty(whole, parts, found):
    assert list(shares(whole, parts)) == found


async def test_an_answer_of_another_status_fails_the_clients():
    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 \r\ncontent-length: 2\r\n\r\nno")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ValueError, match="503"):
            await call(Plan([Target("127.0.0.1", port, "/", 202)], "{}", 1, 1, 5))


def test_a_name_that_fits_no_figure_is_refused():
    refused = run("-m", "benchmarks", "--only", "nothing")
    assert refused.returncode == 2
    assert "engine/drain" in refused.stderr


@pytest.mark.parametrize(
    ("count", "p50", "p99"), [(1, 1, 1), (2, 1, 2), (100, 50, 99), (101, 51, 100), (1000, 500, 990)]
)
def test_a_percentile_is_a_value_that_was_measured(count, p50, p99):
    latency = Latency.of([second / 1000 for second in range(count, 0, -1)])
    assert (latency.p50, latency.p99) == (p50, p99)


def test_the_reference_runs_can_be_read():
    for file in (REPOSITORY / "benchmarks" / "results").glob("*.json"):
        kept = msgspec.json.decode(file.read_bytes(), type=Report)
        assert [figure.name for figure in kept.figures] == FIGURES, file.name


def test_the_readme_says_what_every_figure_is():
    readme = (REPOSITORY / "benchmarks" / "README.md").read_text()
    families = {name.rsplit("/", 1)[0] + "/N" if name.startswith("floor/") else name for name in FIGURES}
    assert [family for family in sorted(families) if f"| `{family}` |" not in readme] == []
