"""What the documents point to is there: files, headings, modules, statements, methods."""

import re
from pathlib import Path

import pytest

from tests.docs.documents import DOCS, DOCUMENTS, EXAMPLES, REPOSITORY, anchors, code_spans, links, name

SOURCE = REPOSITORY / "src" / "quarterdeck"
PLACES = (REPOSITORY, SOURCE, SOURCE / "store" / "sql")
CODE = {path: path.read_text() for path in SOURCE.rglob("*.py")}

FILE = re.compile(r"[\w.-]+(/[\w.-]+)*(/|\.(py|sql|toml|yml|lock))")
METHOD = re.compile(r"([A-Z]\w+)\.([a-z_]\w*)(\(.*\))?(?<!\.md)")

# Files that readers have, or that a service makes.
THEIRS = {
    *("shop.py", "myapp.py", "photos.py", "sums.py", "doubles.py", "quarterdeck.toml"),
    *("cluster/", "run/", "owner.lock", "server.lock"),
}
# It speaks of tests and migrations to be written.
MANUALS = [document for document in DOCUMENTS if document.name != "CONTRIBUTING.md"]


def each_link():
    found = [(document, target) for document in (*DOCUMENTS, *EXAMPLES) for target in links(document)]
    return [pytest.param(document, target, id=f"{name(document)}-{target}") for document, target in found]


def each_span(pattern):
    found = {(document, span) for document in MANUALS for span in code_spans(document) if pattern.fullmatch(span)}
    return [pytest.param(document, span, id=f"{name(document)}-{span}") for document, span in sorted(found)]


@pytest.mark.parametrize(("document", "target"), each_link())
def test_a_link_leads_to_a_file_and_a_heading_that_are_there(document, target):
    path, _, heading = target.partition("#")
    file = (document.parent / path).resolve() if path else document
    assert file.is_relative_to(REPOSITORY), "a link out of the repository breaks for everybody else"
    assert file.exists(), f"there is no {path}"
    if heading:
        assert heading in anchors(file), f"{path or document.name} has no heading #{heading}"


@pytest.mark.parametrize(("document", "path"), each_span(FILE))
def test_a_file_that_is_named_is_there(document, path):
    there = any((place / path).exists() for place in (*PLACES, document.parent))
    assert there or path in THEIRS, "there is no such file"


@pytest.mark.parametrize(("document", "span"), each_span(METHOD))
def test_a_method_that_is_named_is_there(document, span):
    owner, method, _ = METHOD.fullmatch(span).groups()
    homes = [text for text in CODE.values() if re.search(rf"^class {owner}\b", text, re.MULTILINE)]
    assert homes, f"there is no class {owner}"
    assert any(re.search(rf"\bdef {method}\b", text) for text in homes), f"{owner} has no {method}"


def reachable_from(start: Path) -> set[Path]:
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        document = waiting.pop()
        if document not in seen:
            seen.add(document)
            targets = ((document.parent / target.partition("#")[0]).resolve() for target in links(document))
            waiting += [target for target in targets if target.suffix == ".md" and target.is_file()]
    return seen


def test_every_page_can_be_reached_from_the_index():
    pages = set(DOCS.rglob("*.md"))
    assert pages, "there is no documentation"
    assert pages - reachable_from(DOCS / "index.md") == set()


def test_every_example_is_listed_and_has_a_page_and_a_test():
    examples = REPOSITORY / "examples"
    directories = {path.name for path in examples.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert {target.removesuffix("/README.md") for target in links(examples / "README.md")} == directories
    for example in directories:
        assert (REPOSITORY / "tests" / "examples" / f"test_{example}.py").is_file()


@pytest.mark.parametrize("decision", sorted((DOCS / "adr").glob("*.md")), ids=lambda path: path.stem)
def test_a_decision_has_its_number_and_its_parts(decision):
    text = decision.read_text()
    assert text.startswith(f"# {int(decision.stem[:4])}. ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Status", "Context", "Decision", "Consequences"]
