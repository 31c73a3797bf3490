"""The wheel has all that it needs and nothing else, whether built from the image's files or the source distribution."""

import email
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from quarterdeck.version import __version__
from tests.containers.files import REPOSITORY, copied, in_context

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
INFO = f"quarterdeck-{__version__}.dist-info"
INSTALLED = {"src/quarterdeck": "quarterdeck", "migrations": "quarterdeck/migrations"}
COMMAND = "_quarterdeck_command.py"
INSTALLED["examples/quickstart"] = "quarterdeck/examples/quickstart"

pytestmark = pytest.mark.timeout(120)


def build(target, source, destination):
    """Builds with the tools of the environment, as it is: nothing is fetched."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(destination)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
    (built,) = destination.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from what the Dockerfile copies for it and from nothing else."""
    context = tmp_path_factory.mktemp("context")
    for source, target in copied(stage=0):
        path = REPOSITORY / source
        for file in [path] if path.is_file() else path.rglob("*"):
            name = file.relative_to(REPOSITORY).as_posix()
            if file.is_dir() or not in_context(name):
                continue
            place = context / (name if path.is_dir() else f"{target}/{file.name}")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place, follow_symlinks=False)
    return build("wheel", context, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def contents(wheel):
    """The bytes of every file in the wheel, by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def source_files():
    """What is to be installed: every file by its place in the wheel."""
    return {COMMAND: REPOSITORY / "src" / COMMAND} | {
        f"{place}/{file.relative_to(REPOSITORY / source).as_posix()}": file
        for source, place in INSTALLED.items()
        for file in (REPOSITORY / source).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and file != REPOSITORY / "migrations" / "README.md"
    }


def test_the_wheel_holds_every_file_of_the_package_as_it_is_and_no_other(contents):
    code = {name: content for name, content in contents.items() if not name.startswith(INFO)}
    expected = source_files()
    assert sorted(code) == sorted(expected)
    assert [name for name, file in expected.items() if file.read_bytes() != code[name]] == []
    about = {name.removeprefix(f"{INFO}/") for name in contents.keys() - code.keys()}
    assert about == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


@pytest.mark.parametrize(
    "name",
    [
        *("py.typed", "hypercorn.toml", "migrations/0001_initial.up.sql", "store/sql/claim_jobs.sql"),
        "examples/quickstart/app.py",
    ],
)
def test_the_wheel_holds_what_is_no_module(contents, name):
    assert contents[f"quarterdeck/{name}"] or name == "py.typed"


def test_the_wheel_says_what_it_is_and_what_it_needs(contents):
    said = email.message_from_bytes(contents[f"{INFO}/METADATA"])
    assert (said["Name"], said["Version"], said["License-Expression"]) == ("quarterdeck", __version__, "Apache-2.0")
    assert said["Description-Content-Type"] == "text/markdown"
    needed = {Requirement(each) for each in said.get_all("Requires-Dist") if "extra ==" not in each}
    assert needed == {Requirement(each) for each in PROJECT["dependencies"]}
    assert set(said.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])
    commands = contents[f"{INFO}/entry_points.txt"].decode()
    assert all(f"{name} = {target}" in commands for name, target in PROJECT["scripts"].items())


def test_the_source_distribution_makes_the_same_wheel(contents, tmp_path):
    packed = build("sdist", REPOSITORY, tmp_path / "sdist")
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    assert (source / "examples" / "README.md").is_file()
    assert not (source / ".env").exists()
    again = build("wheel", source, tmp_path / "again")
    with zipfile.ZipFile(again) as archive:
        digests = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
    assert digests == {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment of its own with the wheel and what the wheel says it needs; no source tree, no tools of ours."""
    directory = tmp_path_factory.mktemp("installed") / "venv"
    install = ["pip", "install", "--no-deps", "--python", directory / "bin" / "python", wheel]
    for command in (["venv", "--python", sys.executable, directory], install):
        uv = [REPOSITORY / "scripts" / "uv", "--offline", "--no-cache", "--quiet", *command]
        subprocess.run(uv, check=True, capture_output=True, env={**os.environ, "UV_NO_INDEX": "1"})
    (packages,) = directory.glob("lib/python*/site-packages")
    # Linked and not fetched: the tests use no network. What is not in the closure is not there.
    for place in {place for name in needed_by(wheel) for place in top_level(importlib.metadata.distribution(name))}:
        (packages / place.name).symlink_to(place)
    return directory


def needed_by(wheel):
    """The names of all distributions that a wheel needs, directly or not, on this machine."""
    with zipfile.ZipFile(wheel) as archive:
        said = email.message_from_bytes(archive.read(f"{INFO}/METADATA"))
    waiting = [(Requirement(each), "") for each in said.get_all("Requires-Dist")]
    found = set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = requirement.name.lower()
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in found:
                found.add((name, wanted))
                below = importlib.metadata.distribution(name).requires or []
                waiting += [(Requirement(each), wanted) for each in below]
    return {name for name, _ in found}


def top_level(distribution):
    """The files and directories of a distribution that lie directly in site-packages."""
    tops = {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}
    return [Path(distribution.locate_file(top)) for top in tops]


def run(environment, *command, cwd):
    """Runs a program of that environment, with nothing of this process's own."""
    variables = {"PATH": f"{environment / 'bin'}:/usr/bin:/bin", "HOME": str(cwd), "COLUMNS": "100"}
    command = [environment / "bin" / command[0], *command[1:]]
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=100, check=False)


def test_the_installed_wheel_stands_alone(environment, tmp_path):
    look = "import quarterdeck, sys; print(quarterdeck.__file__); print(*sys.path, sep=chr(10))"
    ran = run(environment, "python", "-c", look, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    module, *path = ran.stdout.splitlines()
    assert Path(module).is_relative_to(environment)
    assert not any(Path(place).is_relative_to(REPOSITORY) for place in path)
    for tool in ("pytest", "yaml", "redis", "hatchling"):
        assert run(environment, "python", "-c", f"import {tool}", cwd=tmp_path).returncode == 1, tool


@pytest.mark.parametrize("name", ["qd", "quarterdeck"])
def test_the_installed_commands_say_their_version(environment, tmp_path, name):
    ran = run(environment, name, "--version", cwd=tmp_path)
    assert (ran.returncode, ran.stdout.split()) == (0, [name, __version__]), ran.stderr


def test_the_demo_runs_from_the_installed_wheel_in_an_empty_directory(environment, tmp_path):
    ran = run(environment, "qd", "demo", "--json", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert report["jobs"] > 0
    assert report["checks"]["different"] == []
    assert {file["path"] for file in report["files"]} <= {name.removeprefix("quarterdeck/") for name in source_files()}
    assert [path.name for path in tmp_path.iterdir()] == [".quarterdeck"], "it leaves its database and nothing else"
