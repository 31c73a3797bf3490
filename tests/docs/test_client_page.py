"""The page on the Python client: its programs print what it says, its table has all methods, its figures are true."""

import inspect
import re

from quarterdeck.client import Client, subscriptions
from tests.docs.documents import DOCS, blocks, sections
from tests.docs.test_snippets import DEFAULT_URL, console_blocks, reader_of
from tests.support.processes import running_service

PAGE = DOCS / "how-to" / "use-the-python-client.md"


async def test_the_programs_print_what_the_page_shows(tmp_path, database_url):
    async with running_service(tmp_path, settings={"QUARTERDECK_DATABASE_URL": database_url}) as service:
        programs = [block for block in blocks(PAGE) if block.marker.startswith("file ")]
        for program in programs:
            file = tmp_path / program.marker.removeprefix("file ")
            file.write_text(program.text.replace(DEFAULT_URL, service.url))
        reader = reader_of(service, tmp_path)
        shown = console_blocks(PAGE)
        assert len(shown) == len(programs)
        for block in shown:
            await reader.follow(block)


def test_the_table_has_every_method():
    rows = sections(PAGE)["What it can do"].table("Method")
    methods = [name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")]
    assert sorted(re.match(r"`(\w+)\(", row[0])[1] for row in rows) == sorted(methods)


def test_the_figures_are_those_in_the_code():
    text = PAGE.read_text()
    defaults = {name: each.default for name, each in inspect.signature(Client).parameters.items()}
    times = ", ".join(f"{name}={defaults[name]:g}" for name in ("timeout", "patience", "outlast"))
    assert f"`Client(url, api_key, {times})`" in text
    concurrency = inspect.signature(Client.submit_many).parameters["concurrency"].default
    assert f"concurrency={concurrency})`" in text
    assert f"up to {subscriptions.MOST} items" in text
