"""The page about tests of handlers: its tests pass, and its tables have every argument, field and method."""

import inspect
import re

from quarterdeck.testing import Ran, Workbench, run_inline
from tests.docs.documents import DOCS, sections
from tests.docs.reader import Reader, console_blocks, write_files

PAGE = DOCS / "how-to" / "test-your-handlers.md"  # test-your-handlers.md
NAME = re.compile(r"`(?:await )?(?:bench\.)?(\w+)[^`]*`")


def names(rows):
    """What the first cells name."""
    return [name for row in rows for name in NAME.findall(row[0])]


async def test_the_tests_of_the_page_pass(tmp_path, server_dsn):
    write_files(PAGE, tmp_path)
    reader = Reader(tmp_path, {}, TEST_DATABASE_URL=server_dsn)
    for block in console_blocks(PAGE):
        await reader.follow(block)


def test_the_tables_have_every_argument_and_field_of_an_inline_run():
    section = sections(PAGE)["One attempt, without a database"]
    arguments = [name for name in inspect.signature(run_inline).parameters if name != "options"]
    assert [name for name in names(section.table("Argument")) if name in arguments] == arguments
    fields = {name for name in vars(Ran) if not name.startswith("_")} - {"assert_submitted", "assert_not_submitted"}
    assert set(names(section.table("Field"))) == fields


def test_the_tables_have_every_argument_and_method_of_a_workbench():
    section = sections(PAGE)["Queues, on a real database"]
    arguments = list(inspect.signature(Workbench.drain).parameters)[2:]
    assert names(section.table("Argument")) == arguments
    methods = {name for name, _ in inspect.getmembers(Workbench, inspect.isfunction) if not name.startswith("_")}
    assert {*names(section.table("Also")), "drain"} == methods | {"deck", "url"}


def test_the_figures_are_those_in_the_code():
    text = PAGE.read_text()
    defaults = {name: each.default for name, each in inspect.signature(Workbench.drain).parameters.items()}
    assert f"attempts ({defaults['limit']}) and seconds ({defaults['within']:g})" in text
