"""The documentation, as tests read it: its sections, tables, links, and the blocks that are marked to be run."""

import re
from pathlib import Path

import msgspec

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
REFERENCE = DOCS / "reference"
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *DOCS.rglob("*.md"), *REPOSITORY.glob("migrations/*.md")])
EXAMPLES = sorted(REPOSITORY.glob("examples/**/*.md"))

_BLOCK = re.compile(
    r"^(?:<!-- (?P<how>run|not run): (?P<said>[^>]*?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`[^`\n]*`")
_SPAN = re.compile(r"`([^`\n]+)`")
_CELL = re.compile(r"(?<!\\)\|")


class Block(msgspec.Struct, frozen=True):
    """A fenced block. `marker` says how it is run, `reason` why it is not; both are empty where the page is silent."""

    document: Path
    line: int
    marker: str
    reason: str
    language: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        return f"{name(self.document)}:{self.line}"

    @property
    def words(self) -> list[str]:
        """The words of its marker: how it is run, and with what."""
        return self.marker.split() or [""]


class Section(msgspec.Struct, frozen=True):
    """What stands between a heading and the next one, of whatever level."""

    heading: str
    level: int
    text: str

    def table(self, *columns: str) -> list[list[str]]:
        """The rows of the table whose header begins with `columns`; raises LookupError where there is none."""
        for lines in re.findall(r"(?:^\|.*\|\n?)+", self.text, re.MULTILINE):
            header, _, *rows = [[cell.strip() for cell in _CELL.split(line)[1:-1]] for line in lines.splitlines()]
            if header[: len(columns)] == list(columns):
                return rows
        raise LookupError(f"no table with the columns {columns} under {self.heading!r}")


def name(document: Path) -> str:
    """A document's name for people."""
    return document.relative_to(REPOSITORY).as_posix()


def blocks(document: Path) -> list[Block]:
    """All fenced blocks of a document, in order."""
    text = document.read_text()
    return [
        Block(
            document,
            text.count("\n", 0, found.start()) + 1,
            found["said"] if found["how"] == "run" else "",
            found["said"] if found["how"] == "not run" else "",
            found["language"],
            found["text"],
        )
        for found in _BLOCK.finditer(text)
    ]


def fences(document: Path) -> int:
    """How many fenced blocks a document opens, however they are written."""
    return sum(line.lstrip().startswith(("```", "~~~")) for line in document.read_text().splitlines()) // 2


def prose(document: Path) -> str:
    """A document without its fenced blocks."""
    return _BLOCK.sub("", document.read_text())


def sections(document: Path) -> dict[str, Section]:
    """The sections of a document by their headings, as plain text."""
    parts = re.split(r"^(#+) (.+)$", prose(document), flags=re.MULTILINE)[1:]
    found = [Section(parts[at + 1], len(parts[at]), parts[at + 2]) for at in range(0, len(parts), 3)]
    assert len({section.heading for section in found}) == len(found), f"{name(document)} has two headings of one text"
    return {section.heading: section for section in found}


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub and most renderers make them."""
    titles = sections(document)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def links(document: Path) -> list[str]:
    """The targets of a document's links, but for those that lead elsewhere."""
    targets = _LINK.findall(_CODE.sub("", prose(document)))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def code_spans(document: Path) -> list[str]:
    """What stands between backticks in running text."""
    return _SPAN.findall(prose(document))


def code(cell: str) -> str:
    """The text of a cell that is one code span."""
    found = re.fullmatch(r"`([^`]+)`", cell)
    assert found, f"{cell!r} is not one code span"
    return found[1]
