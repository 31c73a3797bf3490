"""One statement a file, named like the method that runs it; and no statement anywhere else."""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "quarterdeck"
STORE = SOURCE / "store"
FILES = sorted((STORE / "sql").glob("*.sql"))
PARTS = sorted((STORE / "sql" / "parts").glob("*.sql"))
QUOTED_OR_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\$\$.*?\$\$", re.DOTALL)
STATEMENT = re.compile(
    r"^\s*(select\s.+?\s(from|where|as)\s|insert\s+into\s|update\s.+?\sset\s|delete\s+from\s|with\s.+?\sas\s.*\()",
    re.IGNORECASE | re.DOTALL,
)
# They speak SQL of their own: about databases, and about what the migrations have done.
WITH_STATEMENTS_OF_THEIR_OWN = {"migrator.py", "embedded.py"}


def by_name(path: Path) -> str:
    return path.stem


def test_there_are_statements():
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=by_name)
def test_a_file_says_first_what_it_does_and_then_holds_one_statement(path):
    text = path.read_text()
    assert re.match(r"-- [A-Z]\w+ ", text), "the first line is a comment: what the statement does and what it locks"
    statement = QUOTED_OR_COMMENT.sub("", text).strip()
    assert statement, "no statement"
    assert ";" not in statement, "more than one statement, or a semicolon that asyncpg does not need"


@pytest.mark.parametrize("path", FILES, ids=by_name)
def test_a_statement_is_run_by_its_name(path):
    word = re.compile(rf"\b{path.stem}\b")
    assert any(word.search(module.read_text()) for module in STORE.glob("*.py")), "nothing in store/ names it"


@pytest.mark.parametrize("path", PARTS, ids=by_name)
def test_a_part_is_used_by_a_statement(path):
    assert any(f"{{{path.stem}}}" in other.read_text() for other in FILES + PARTS)


def strings_in(module: Path) -> list[ast.Constant]:
    """String constants that are not docstrings."""
    tree = ast.parse(module.read_text())
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
    ]


def test_no_statement_hides_in_python():
    hidden = [
        f"{module.relative_to(SOURCE)}:{node.lineno}: {node.value[:60]!r}"
        for module in sorted(SOURCE.rglob("*.py"))
        if module.name not in WITH_STATEMENTS_OF_THEIR_OWN
        for node in strings_in(module)
        if STATEMENT.match(node.value)
    ]
    assert not hidden, f"statements belong into store/sql/: {hidden}"


@pytest.mark.parametrize(
    ("text", "is_statement"),
    [
        ("select id from job", True),
        ("\n  insert into quarterdeck.job values ($1)", True),
        ("UPDATE job SET state = $1", True),
        ("delete from job", True),
        ("with due as (select 1) select 2", True),
        ("select a queue", False),
        ("update the queue", False),
        ("with what it takes", False),
    ],
)
def test_a_statement_is_told_from_prose(text, is_statement):
    assert bool(STATEMENT.match(text)) is is_statement
