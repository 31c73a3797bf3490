"""The example that newcomers read first does what it says."""

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.quickstart.app import checksum, deck, word_count
from quarterdeck import Cancel, JobContext
from tests.support.processes import REPOSITORY, service_environment

BIN = Path(sys.executable).parent


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


async def test_what_its_page_has_typed_does_what_it_says(serve):
    page = (REPOSITORY / "examples" / "quickstart" / "README.md").read_text()
    typed = re.findall(r"^(qd submit .+|curl .+\\\n.+)$", page, re.MULTILINE)
    assert len(typed) == 3
    (refused,) = re.findall(r"`(qd submit .+?)`", page)
    async with serve("examples.quickstart.app:deck") as service:
        settings = {"QUARTERDECK_URL": service.url, "NO_PROXY": "127.0.0.1"}
        environment = service_environment({**settings, "PATH": f"{BIN}:{os.environ['PATH']}"})

        async def type_in(command):
            command = command.replace("http://127.0.0.1:8000", service.url)
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            shell = await asyncio.create_subprocess_exec(
                "bash", "-c", command, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, **pipes
            )
            output, errors = await shell.communicate()
            return shell.returncode, output.decode(), errors.decode()

        answers = await asyncio.gather(*(type_in(command) for command in (*typed, refused)))
    counted, checked, posted, no = answers
    content = (REPOSITORY / "README.md").read_bytes()
    assert (counted[0], checked[0], posted[0]) == (0, 0, 0), answers
    assert json.loads(counted[1])["words"] == len(content.split())
    assert json.loads(checked[1])["digest"] == hashlib.md5(content).hexdigest()
    assert json.loads(posted[1])["result"]["digest"] == hashlib.sha256(content).hexdigest()
    assert no[0] != 0
    assert "algorithm" in no[2]
