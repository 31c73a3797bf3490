"""What the documents show works: their Python runs, and their commands do what is printed below them."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from quarterdeck.store.embedded import EmbeddedPostgres
from tests.docs.documents import DOCS, DOCUMENTS, REPOSITORY, Block, blocks, name
from tests.support.processes import ServeProcess, cleaned_up, service_environment, start_service
from tests.support.waiting import eventually

DEFAULT_URL = "http://127.0.0.1:8000"
MARKED = [block for document in DOCUMENTS for block in blocks(document) if block.marker]
PYTHON = [block for block in MARKED if block.marker == "python"]
HANDLERS = DOCS / "how-to" / "write-a-handler.md"


def place(block: Block) -> str:
    return f"{name(block.document)}:{block.line}"


def console_blocks(document: Path) -> list[Block]:
    return [block for block in blocks(document) if block.marker.split()[:1] == ["console"]]


def write_file(document: Path, directory: Path) -> str:
    """Writes the file that a document has its reader write; returns the module's name."""
    (block,) = [block for block in blocks(document) if block.marker.startswith("file ")]
    file = directory / block.marker.removeprefix("file ")
    file.write_text(block.text)
    return file.stem


def commands_and_outputs(block: Block) -> list[tuple[str, str]]:
    """The commands of a console block, each with what the document shows below it."""
    parts = re.split(r"^\$ (.+)\n", block.text, flags=re.MULTILINE)
    assert not parts[0], f"{place(block)} does not begin with a command"
    return list(zip(parts[1::2], parts[2::2], strict=True))


class Reader:
    """Somebody at a terminal: types commands, and keeps variables from one block to the next."""

    def __init__(self, directory: Path, replacements: dict[str, str], **settings: str) -> None:
        self._directory = directory
        self._replacements = replacements
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**service_environment(settings), "PATH": path, "COLUMNS": "200"}
        self.variables = ""

    async def follow(self, block: Block) -> None:
        """Types each command of a block, and looks whether what comes is what the document shows."""
        for command, shown in commands_and_outputs(block):
            code, output = await self.type(command)
            failed = f"{place(block)}: `{command}` exits with {code}: {output}"
            assert (code != 0) == ("fails" in block.marker.split()), failed
            if shown:
                pattern = ".*".join(re.escape(part) for part in self._replaced(shown).strip().split("…"))
                assert re.fullmatch(pattern, output.strip(), re.DOTALL), f"{place(block)}: `{command}` prints\n{output}"

    async def type(self, command: str) -> tuple[int, str]:
        """Runs one command in a shell; returns its exit code, and what it prints."""
        file = self._directory / "variables"
        keep = f"code=$?; declare -p id > {file} 2>/dev/null; exit $code"
        script = f"{self.variables}{self._replaced(command)}\n{keep}\n"
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", script),
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        self.variables = file.read_text()
        for line in re.findall(r"^export (\w+)=(\S+)$", self._replaced(command), re.MULTILINE):
            self._environment[line[0]] = line[1]
        assert process.returncode is not None
        return process.returncode, output.decode()

    def _replaced(self, text: str) -> str:
        for shown, real in self._replacements.items():
            text = text.replace(shown, real)
        return text


def reader_of(service: ServeProcess, directory: Path, variables: str = "") -> Reader:
    reader = Reader(directory, {DEFAULT_URL: service.url}, QUARTERDECK_URL=service.url)
    reader.variables = variables
    return reader


def serve(directory: Path, app: str, **settings: str) -> ServeProcess:
    return start_service(directory, app, settings=settings, cwd=directory)


def test_the_markers_are_known_and_the_snippets_are_found():
    assert PYTHON
    unknown = [place(block) for block in MARKED if block.marker.split()[0] not in ("python", "file", "console")]
    assert unknown == []
    unmarked = [
        place(block)
        for document in DOCUMENTS
        for block in blocks(document)
        if block.language in ("python", "console") and not block.marker
    ]
    assert unmarked == [], "these are not run"


@pytest.mark.parametrize("block", PYTHON, ids=place)
def test_a_python_snippet_registers_handlers(block, tmp_path):
    file = tmp_path / "snippet.py"
    file.write_text(f"{block.text}\nassert deck.handlers\n")
    command = [sys.executable, "-W", "error", file]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr


@pytest.fixture
async def directory(tmp_path):
    """A directory of the reader's own; what a killed service leaves running there is stopped afterwards."""
    yield tmp_path
    if (tmp_path / "data" / "cluster" / "postmaster.pid").exists():
        left_running = EmbeddedPostgres(tmp_path / "data")
        await left_running.start()
        await left_running.stop()


@pytest.mark.timeout(120)  # many commands, each a process
async def test_the_tour_of_the_readme_goes_as_it_says(directory):
    readme = REPOSITORY / "README.md"
    module = write_file(readme, directory)
    with cleaned_up(serve(directory, f"{module}:deck")) as service:
        await service.wait_until_ready()
        reader = reader_of(service, directory)
        for block in console_blocks(readme):
            await reader.follow(block)
        assert await service.stop() == 0


@pytest.mark.timeout(120)
async def test_the_tutorial_goes_as_it_says(directory):
    tutorial = DOCS / "tutorials" / "first-job.md"
    module = write_file(tutorial, directory)
    first, look, misfit, cancelled, long, after, cancel = console_blocks(tutorial)
    settings = {"QUARTERDECK_LEASE": "3"}  # not to wait for 15 seconds
    with cleaned_up(serve(directory, f"{module}:deck", **settings)) as service:
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
    with cleaned_up(serve(directory, f"{module}:deck", **settings)) as service:
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


async def test_the_handlers_that_submit_get_results(tmp_path, database_url):
    (source,) = [block for block in PYTHON if block.document == HANDLERS and "sum_of_doubles" in block.text]
    (tmp_path / "mine.py").write_text(source.text)
    with cleaned_up(serve(tmp_path, "mine:deck", QUARTERDECK_DATABASE_URL=database_url)) as service:
        await service.wait_until_ready()
        reader = reader_of(service, tmp_path)
        assert await reader.type("qd submit sum_of_doubles numbers=[1,2,3] --wait") == (0, "12\n")
        code, output = await reader.type("qd submit later --wait")
        assert code == 0, output
        assert re.fullmatch(r'"[0-9a-f-]{36}: 8"', output.strip())
        await service.stop()


async def test_a_database_is_migrated_as_the_page_says(tmp_path, empty_database):
    page = DOCS / "how-to" / "run-on-your-postgresql.md"
    (block,) = console_blocks(page)
    shown = re.search(r"postgresql://\S+", block.text)[0]
    await Reader(tmp_path, {shown: empty_database}).follow(block)
