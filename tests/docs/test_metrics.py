"""The page of the metrics says what the catalogue says, and its figures are those of the code."""

import re

from quarterdeck.engine import calls, exposition
from quarterdeck.telemetry.catalogue import CATALOGUE, PREFIX
from quarterdeck.telemetry.metrics import MAX_PAIRS, MAX_VALUES
from tests.docs.documents import REFERENCE, sections

PAGE = REFERENCE / "metrics.md"


def test_every_metric_is_documented_as_it_is_declared():
    documented = []
    for section in sections(PAGE).values():
        try:
            documented += section.table("Metric", "Type", "Labels", "Meaning")
        except LookupError:
            continue
    declared = [
        [f"`{each.name}`", each.type, ", ".join(f"`{label}`" for label in each.labels), each.help] for each in CATALOGUE
    ]
    assert sorted(documented) == sorted(declared)
    assert [row[0] for row in documented] == [row[0] for row in declared]


def test_every_metric_that_the_page_asks_for_is_there():
    names = {PREFIX + each.name for each in CATALOGUE}
    asked = {name.removesuffix("_bucket") for name in re.findall(rf"\b{PREFIX}\w+", PAGE.read_text())} - {PREFIX}
    assert asked
    assert asked <= names


def test_its_figures_are_those_of_the_code():
    text = PAGE.read_text()
    assert f"The first {MAX_VALUES} queues and the first {MAX_VALUES} kinds" in text
    assert f"the first {MAX_PAIRS} pairs" in text
    assert f"longer than {calls.CALL_TIMEOUT:g} seconds is given up" in text
    assert (exposition.TTL, exposition.REST) == (1.0, 5.0)  # the page says them in words
