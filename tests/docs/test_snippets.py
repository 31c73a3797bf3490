"""What the documents show works: their Python runs, and their commands do what is printed below them."""

import json
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg
import httpx
import pytest

from quarterdeck.store.embedded import EmbeddedPostgres
from tests.docs.documents import DOCS, DOCUMENTS, EXAMPLES, REPOSITORY, blocks, fences, name
from tests.docs.reader import Reader, console_blocks, reader_of, serve, write_files
from tests.support.database import _memory
from tests.support.processes import ServeProcess, cleaned_up
from tests.support.waiting import eventually

ALL = [block for document in (*DOCUMENTS, *EXAMPLES) for block in blocks(document)]
PYTHON = [block for block in ALL if block.words[0] == "python"]

README = REPOSITORY / "README.md"
TUTORIAL = DOCS / "tutorials" / "first-job.md"
ON_POSTGRESQL = DOCS / "how-to" / "run-on-your-postgresql.md"
# Pages with a test of their own, here or in the module that is named.
APART = {
    README: "test_snippets.py",
    TUTORIAL: "test_snippets.py",
    ON_POSTGRESQL: "test_snippets.py",
    DOCS / "how-to" / "watch-jobs-live.md": "test_live_snippets.py",
    DOCS / "how-to" / "test-your-handlers.md": "test_testing_page.py",
    DOCS / "how-to" / "call-a-url.md": "test_built_in_kinds.py",
}
# Pages of commands for Docker, systemd and proxies: the module, below tests/, looks at each of their blocks.
AS_A_WHOLE = {
    DOCS / "how-to" / "run-with-compose.md": "containers/test_pages.py",
    DOCS / "how-to" / "deploy.md": "containers/test_pages.py",
}
PAGES = [document for document in DOCUMENTS if console_blocks(document) and document not in APART]
HOW = ("python", "file", "serve", "console", "sql", "test")

RUNS_ALL = """
import json, runpy, sys, traceback

failures = {}
for path in json.load(sys.stdin):
    try:
        assert runpy.run_path(path)["deck"].handlers, "it registers no handler"
    except BaseException:
        failures[path] = traceback.format_exc()
print(json.dumps(failures))
"""


def test_every_block_is_found():
    assert {
        name(document) for document in (*DOCUMENTS, *EXAMPLES) if len(blocks(document)) != fences(document)
    } == set()


def test_every_block_is_run_or_says_why_not():
    silent = [
        block.place
        for block in ALL
        if not block.marker and not block.reason and block.language != "text" and block.document not in AS_A_WHOLE
    ]
    assert silent == [], "neither run nor marked with a reason; figures and listings are `text`"
    assert [block.place for block in ALL if block.marker and block.words[0] not in HOW] == [], "an unknown marker"


def test_a_block_that_a_test_takes_care_of_is_named_there():
    for block in ALL:
        if block.words[0] == "test":
            (module,) = block.words[1:]
            text = (Path(__file__).parent / module).read_text()
            assert block.document.name in text, f"{block.place}: {module} does not name the page"
    for document, module in AS_A_WHOLE.items():
        assert document.name in (REPOSITORY / "tests" / module).read_text()


def test_every_page_with_commands_is_followed():
    typed = {document for document in (*DOCUMENTS, *EXAMPLES) if console_blocks(document)}
    assert typed == {*PAGES, *APART}
    for document, module in APART.items():
        assert document.name in (Path(__file__).parent / module).read_text()


def test_every_python_snippet_registers_handlers(tmp_path):
    files = {str(tmp_path / f"snippet{number}.py"): block for number, block in enumerate(PYTHON)}
    for file, block in files.items():
        Path(file).write_text(block.text)
    command = [sys.executable, "-W", "error", "-c", RUNS_ALL]
    ran = subprocess.run(command, input=json.dumps([*files]), capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert files
    assert {files[file].place: trace for file, trace in json.loads(ran.stdout).items()} == {}


@pytest.mark.parametrize("page", PAGES, ids=name)
@pytest.mark.timeout(120)  # many commands, each a process
async def test_a_page_goes_as_it_says(page, tmp_path, database_url):
    """Its files are there, one service runs, with the deck that the page serves, and the commands come in order."""
    module = next((Path(block.words[1]).stem for block in blocks(page) if block.words[0] == "serve"), None)
    if module is not None:
        write_files(page, tmp_path)
    with cleaned_up(serve(tmp_path, module, QUARTERDECK_DATABASE_URL=database_url)) as service:
        await service.wait_until_ready()
        write_files(page, tmp_path, service.url)
        reader = reader_of(service, tmp_path)
        for block in console_blocks(page):
            await reader.follow(block)


@pytest.mark.timeout(120)
async def test_the_tour_of_the_readme_goes_as_it_says(tmp_path, database_url):
    module = write_files(README, tmp_path)
    with cleaned_up(serve(tmp_path, module, QUARTERDECK_DATABASE_URL=database_url)) as service:
        await service.wait_until_ready()
        reader = reader_of(service, tmp_path)
        for block in console_blocks(README):
            await reader.follow(block)
        assert await service.stop() == 0


@pytest.fixture
async def directory():
    """A directory of the reader's own, in memory if may be; a server left running there is stopped afterwards."""
    with tempfile.TemporaryDirectory(prefix="qd-docs-", dir=_memory(), ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o711)  # noqa: ASYNC240 - it is in memory
        yield directory
        if (directory / "data" / "cluster" / "postmaster.pid").exists():
            left_running = EmbeddedPostgres(directory / "data")
            await left_running.start()
            await left_running.stop()


@pytest.mark.timeout(120)
async def test_the_tutorial_goes_as_it_says(directory):
    module = write_files(TUTORIAL, directory)
    first, look, misfit, cancelled, long, after, cancel = console_blocks(TUTORIAL)
    settings = {"QUARTERDECK_LEASE": "3"}  # not to wait for 15 seconds
    with cleaned_up(serve(directory, module, **settings)) as service:
        await service.wait_until_ready()
        reader = reader_of(service, directory)
        await reader.follow(first)
        await reader.follow(look)
        job = await job_of(reader, service)
        assert (job["state"], job["attempt"], job["errors"][0]["type"]) == ("completed", 2, "ConnectionError")
        for block in (misfit, cancelled, long):
            await reader.follow(block)
        lost = await job_of(reader, service)
        assert lost["state"] == "running"
        service.kill()
    with cleaned_up(serve(directory, module, **settings)) as service:
        await service.wait_until_ready()
        reader = reader_of(service, directory, reader.variables)

        async def taken_over() -> bool:
            job = await job_of(reader, service)
            return job["state"] == "running" and job["worker"] != lost["worker"]

        await eventually(taken_over, 30)
        assert (await job_of(reader, service))["attempt"] == 1
        await reader.follow(after)
        await reader.follow(cancel)
        service.send(signal.SIGINT)
        assert await service.wait() == 0


async def job_of(reader: Reader, service: ServeProcess) -> dict:
    """The job whose id the reader has kept."""
    found = re.search(r'id="([0-9a-f-]{36})"', reader.variables)
    assert found, "the reader has no id"
    async with httpx.AsyncClient(base_url=service.url, trust_env=False) as client:
        return (await client.get(f"/v1/jobs/{found[1]}")).json()


async def test_a_database_is_migrated_as_the_page_says(tmp_path, empty_database):
    (block,) = console_blocks(ON_POSTGRESQL)
    shown = re.search(r"postgresql://\S+", block.text)[0]
    await Reader(tmp_path, {shown: empty_database}).follow(block)


async def test_a_role_and_a_database_are_made_as_the_page_says(server_dsn):
    (block,) = [block for block in blocks(ON_POSTGRESQL) if block.words[0] == "sql"]
    unique = f"qd_docs_{secrets.token_hex(4)}"
    connection = await asyncpg.connect(server_dsn)
    try:
        for statement in block.text.replace("quarterdeck", unique).split(";\n")[:-1]:
            await connection.execute(statement)
        assert await connection.fetchval("select rolcanlogin from pg_roles where rolname = $1", unique)
    finally:
        await connection.execute(f"drop database if exists {unique}")
        await connection.execute(f"drop role if exists {unique}")
        await connection.close()
