"""The files that the demo takes, and the figures that it tells."""

import hashlib
import shutil
import subprocess

import pytest

from quarterdeck.cli.demo_run import _latency, _summary
from quarterdeck.cli.demo_service import demo_directory
from quarterdeck.cli.demo_work import MAX_BYTES, MAX_FILES, Done, compare_checksums, find_source, list_files


def done(kind, path, result, seconds=0.1):
    return Done(kind, path, result, seconds)


def test_files_that_git_keeps_or_would_keep_are_taken(tmp_path):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("ignored\n")
    (tmp_path / "below").mkdir()
    for name in ("a", "below/b", "ignored"):
        (tmp_path / name).write_text(name)
    assert list_files(tmp_path) == [".gitignore", "a", "below/b"]


def test_without_git_what_is_not_hidden_is_taken(tmp_path):
    for name in ("a", "below/b", ".hidden", ".below/c", "__pycache__/d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert list_files(tmp_path) == ["a", "below/b"]


def test_links_and_huge_files_are_left_out_and_the_number_is_bounded(tmp_path):
    for number in range(MAX_FILES + 10):
        (tmp_path / f"{number:04d}").touch()
    (tmp_path / "0000").unlink()
    (tmp_path / "0000").symlink_to("/etc/passwd")
    with (tmp_path / "0001").open("wb") as huge:
        huge.truncate(MAX_BYTES + 1)
    assert list_files(tmp_path) == [f"{number:04d}" for number in range(2, MAX_FILES + 2)]


def test_the_demo_works_on_this_very_repository(tmp_path):
    source = find_source(tmp_path)
    assert source.app == "examples.quickstart.app:deck"
    assert {"README.md", "examples/quickstart/app.py"} <= set(source.files) or len(source.files) == MAX_FILES
    assert all((source.root / name).is_file() for name in source.files)


def test_the_demo_s_database_stays_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with demo_directory() as directory:
        assert directory.path == tmp_path / ".quarterdeck" / "demo"
        assert [file.name for file in directory.path.iterdir()] == ["demo.lock"]
    assert directory.path.is_dir()


def test_two_demos_at_once_have_a_database_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with demo_directory() as first:
        with demo_directory() as second:
            assert second.path != first.path
        assert not second.path.exists()
        assert first.path.is_dir()
    with demo_directory() as third:
        assert third.path == first.path


@pytest.mark.parametrize("keep", [False, True])
def test_where_nothing_can_be_written_a_temporary_directory_is_taken(tmp_path, monkeypatch, keep):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".quarterdeck").write_text("a file in its place")
    with demo_directory(keep=keep) as directory:
        (directory.path / "file").touch()
        assert not directory.path.is_relative_to(tmp_path)
    assert directory.path.exists() is keep
    shutil.rmtree(directory.path, ignore_errors=True)


def test_checksums_are_compared_with_what_the_files_hold(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "b").write_bytes(b"other")
    right = hashlib.sha256(b"content").hexdigest()
    jobs = [
        done("checksum", "a", {"digest": right}),
        done("checksum", "b", {"digest": right}),
        done("word_count", "a", {"words": 1}),
    ]
    assert compare_checksums(tmp_path, jobs) == (2, ["b"])


def test_a_summary_has_totals_a_line_a_kind_and_a_line_a_file():
    counted = {"path": "a", "lines": 1, "words": 2, "bytes": 3}
    report = _summary(
        [done("word_count", "a", counted, 0.2), done("checksum", "a", {"digest": "d"}, 0.1)],
        seconds=0.5,
    )
    assert report == {
        "jobs": 2,
        "seconds": 0.5,
        "jobs_per_second": 4.0,
        "kinds": {
            "checksum": {"jobs": 1, "p50_ms": 100.0, "p95_ms": 100.0},
            "word_count": {"jobs": 1, "p50_ms": 200.0, "p95_ms": 200.0},
        },
        "files": [{**counted, "sha256": "d"}],
    }


@pytest.mark.parametrize(
    ("seconds", "p50", "p95"), [([0.1], 100, 100), ([0.1, 0.3], 200, 290), ([n / 1000 for n in range(101)], 50, 95)]
)
def test_latencies_are_percentiles_in_milliseconds(seconds, p50, p95):
    latency = _latency(seconds)
    assert (latency["p50_ms"], latency["p95_ms"]) == (pytest.approx(p50), pytest.approx(p95))
