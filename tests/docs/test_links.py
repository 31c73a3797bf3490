"""Links between the documents lead somewhere."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def headings(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub and most renderers make them."""
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def local_links() -> list[tuple[Path, str]]:
    return [
        (document, target)
        for document in DOCUMENTS
        for target in LINK.findall(CODE.sub("", document.read_text()))
        if not re.match(r"[a-z]+:", target)
    ]


@pytest.mark.parametrize(
    ("document", "target"),
    [pytest.param(*link, id=f"{link[0].relative_to(REPOSITORY)}-{link[1]}") for link in local_links()],
)
def test_a_link_leads_to_a_file_and_a_heading_that_are_there(document, target):
    path, _, heading = target.partition("#")
    file = (document.parent / path).resolve() if path else document
    assert file.is_relative_to(REPOSITORY), "a link out of the repository breaks for everybody else"
    assert file.exists(), f"there is no {path}"
    if heading:
        assert heading in headings(file), f"{path or document.name} has no heading #{heading}"
