"""Modules stay small: a reader can hold one in mind."""

from pathlib import Path
from statistics import median

SOURCE = Path(__file__).parents[2] / "src"
LONGEST = 400
USUAL = 150


def lines_by_module() -> dict[str, int]:
    modules = {path: len(path.read_text().splitlines()) for path in SOURCE.rglob("*.py")}
    return {
        str(path.relative_to(SOURCE)): lines
        for path, lines in modules.items()
        if path.name != "__init__.py" or lines > 1
    }


def test_no_module_is_longer_than_a_reader_can_hold():
    too_long = {module: lines for module, lines in lines_by_module().items() if lines > LONGEST}
    assert not too_long, f"modules over {LONGEST} lines; split them by aspect: {too_long}"


def test_a_usual_module_is_short():
    assert median(lines_by_module().values()) <= USUAL
