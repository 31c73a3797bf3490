"""The page on the Python client: its table has all methods, and its figures are true."""

import inspect
import re

from quarterdeck.client import Client, subscriptions
from tests.docs.documents import DOCS, sections

PAGE = DOCS / "how-to" / "use-the-python-client.md"


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
