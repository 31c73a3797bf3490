"""The example that newcomers read first does what it says."""

import hashlib

import pytest

from examples.quickstart import checksum, deck, word_count
from quarterdeck import Cancel, JobContext


@pytest.fixture
def ctx(tmp_path):
    (tmp_path / "file.txt").write_bytes(b"one two\nthree\n\n  four")
    (tmp_path / "empty").touch()
    (tmp_path / "out").symlink_to("/etc/passwd")
    (tmp_path / "in").symlink_to("file.txt")
    return JobContext(None, None, {"root": tmp_path}, None)


@pytest.mark.parametrize(
    ("path", "lines", "words", "size"),
    [("file.txt", 4, 4, 21), ("in", 4, 4, 21), ("empty", 0, 0, 0), ("./file.txt", 4, 4, 21)],
)
async def test_words_are_counted(ctx, path, lines, words, size):
    assert await word_count(ctx, path) == {"path": path, "lines": lines, "words": words, "bytes": size}


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "blake2b", "md5"])
async def test_a_checksum_is_that_of_the_file(ctx, algorithm):
    expected = hashlib.new(algorithm, b"one two\nthree\n\n  four").hexdigest()
    assert await checksum(ctx, "file.txt", algorithm) == {
        "path": "file.txt",
        "algorithm": algorithm,
        "digest": expected,
    }


async def test_the_usual_checksum_is_sha256(ctx):
    assert (await checksum(ctx, "empty"))["digest"] == hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize("handler", [word_count, checksum])
@pytest.mark.parametrize("path", ["../file.txt", "/etc/passwd", "out", "a/../../x"])
async def test_no_path_leads_out_of_the_root(ctx, handler, path):
    assert await handler(ctx, path) == Cancel(f"{path} is not below the root")


@pytest.mark.parametrize("handler", [word_count, checksum])
async def test_a_file_that_is_missing_fails_the_attempt(ctx, handler):
    with pytest.raises(FileNotFoundError):
        await handler(ctx, "missing")


def test_the_root_is_the_working_directory_unless_the_environment_names_another():
    assert deck.resources["root"].is_dir()


def test_only_what_the_signature_says_may_be_asked_for():
    schemas = {handler.kind: handler.schema() for handler in deck.handlers}
    assert sorted(schemas) == ["checksum", "word_count"]
    assert schemas["word_count"]["required"] == ["path"]
    assert schemas["checksum"]["properties"]["algorithm"]["enum"] == ["blake2b", "md5", "sha256", "sha512"]
