"""What holds for the files of the repository, whatever is in them."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
BINARY = {".gif", ".ico", ".jpg", ".png", ".webp", ".whl", ".woff2"}
GENERATED = {"requirements.lock", "LICENSE"}
INDEXES = re.compile(r"pypi\.org|pythonhosted\.org|--(extra-)?index-url\s*=?\s*\S*//|index-url\s*=\s*\S+//")


def repository_files() -> list[Path]:
    """What is, or would be, in version control; where git does not say, the directories that hold sources."""
    git = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    listed = git.stdout.splitlines() if git.returncode == 0 else sources()
    paths = [REPOSITORY / name for name in listed]
    return [path for path in paths if path.is_file() and path.suffix not in BINARY and "__pycache__" not in path.parts]


def sources() -> list[str]:
    top = [path for path in REPOSITORY.iterdir() if path.is_file() or not path.name.startswith(".")]
    return [path.relative_to(REPOSITORY).as_posix() for each in top for path in [each, *each.rglob("*")]]


FILES = repository_files()
TEXT = {path.relative_to(REPOSITORY).as_posix(): path.read_bytes() for path in FILES}


def test_the_lock_holds_no_address():
    assert "://" not in (REPOSITORY / "requirements.lock").read_text()


def test_the_lock_has_a_hash_for_every_package():
    entries = re.split(r"\n(?=\S)", (REPOSITORY / "requirements.lock").read_text().strip())
    packages = [entry for entry in entries if not entry.startswith("#")]
    assert packages
    assert [entry.split(" ")[0] for entry in packages if "--hash=sha256:" not in entry] == []


def dependencies() -> list[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    groups = [
        project["build-system"]["requires"],
        project["project"]["dependencies"],
        *project["project"].get("optional-dependencies", {}).values(),
        *project["dependency-groups"].values(),
    ]
    return sorted({requirement for group in groups for requirement in group})


@pytest.mark.parametrize("requirement", dependencies())
def test_a_dependency_has_a_lower_and_an_upper_bound(requirement):
    bounds = requirement.split(";")[0]
    assert re.search(r">=\d", bounds)
    assert re.search(r"<\d", bounds)


@pytest.mark.parametrize("name", sorted(TEXT))
def test_a_file_is_clean_text(name):
    text = TEXT[name].decode()  # UTF-8
    assert "\r" not in text
    assert not text or text.endswith("\n"), "the last line has no end"
    if name not in GENERATED:
        assert not re.search(r"[ \t]+$", text, re.MULTILINE), "white space at the end of a line"
    if name != "Makefile":
        assert "\t" not in text


def test_no_file_names_a_package_index():
    # A machine's own configuration says where packages come from.
    assert [name for name, text in TEXT.items() if INDEXES.search(text.decode())] == []


@pytest.mark.parametrize(
    "line", ["see pypi" + ".org", "--index-url https:" + "//example.org/simple", "index-url = http:" + "//example.org"]
)
def test_a_named_package_index_is_seen(line):
    assert INDEXES.search(line)
