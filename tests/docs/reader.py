"""Somebody who reads a page and does what it says: writes its files, and types its commands."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.docs.documents import Block, blocks
from tests.support.processes import ServeProcess, service_environment, start_service

DEFAULT_URL = "http://127.0.0.1:8000"


def console_blocks(document: Path) -> list[Block]:
    """The blocks of a page whose commands are typed, and whose output is compared."""
    return [block for block in blocks(document) if block.words[0] == "console"]


def write_files(document: Path, directory: Path, url: str = DEFAULT_URL) -> str | None:
    """Writes the files that a page has its reader write; returns the module that it has its reader serve, if any.

    `url` stands in them where the page has the usual address.
    """
    served = None
    for block in blocks(document):
        if block.words[0] in ("file", "serve"):
            text = block.text.replace(DEFAULT_URL, url).replace(
                DEFAULT_URL.removeprefix("http"), url.removeprefix("http")
            )
            (directory / block.words[1]).write_text(text)
            if block.words[0] == "serve":
                assert served is None, f"{block.place}: a page can have one file served"
                served = Path(block.words[1]).stem
    return served


def commands_and_outputs(block: Block) -> list[tuple[str, str]]:
    """The commands of a console block, each with what the document shows below it."""
    parts = re.split(r"^\$ (.+)\n", block.text, flags=re.MULTILINE)
    assert not parts[0], f"{block.place} does not begin with a command"
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
            failed = f"{block.place}: `{command}` exits with {code}: {output}"
            assert (code != 0) == ("fails" in block.words), failed
            if shown:
                pattern = ".*".join(re.escape(part) for part in self._replaced(shown).strip().split("…"))
                assert re.fullmatch(pattern, output.strip(), re.DOTALL), f"{block.place}: `{command}` prints\n{output}"

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


def reader_of(service: ServeProcess, directory: Path, variables: str = "", **settings: str) -> Reader:
    """A reader whose service has another port than the page's."""
    reader = Reader(directory, {DEFAULT_URL: service.url}, QUARTERDECK_URL=service.url, **settings)
    reader.variables = variables
    return reader


def serve(directory: Path, app: str | None, **settings: str) -> ServeProcess:
    """`qd serve` in the directory of the reader."""
    return start_service(directory, *([f"{app}:deck"] if app else []), settings=settings, cwd=directory)
