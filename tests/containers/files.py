"""docker-compose.yml, the Dockerfile and .dockerignore, read as Docker reads them, as far as these files go."""

import fnmatch
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

REPOSITORY = Path(__file__).parents[2]
COMPOSE = REPOSITORY / "docker-compose.yml"
DOCKERFILE = REPOSITORY / "Dockerfile"

_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?:(?P<how>:[-?])(?P<rest>[^}]*))?\})")


class MissingVariableError(Exception):
    """Compose refuses to start: a variable that must have a value has none."""


def compose(variables: Mapping[str, str], text: str | None = None) -> dict[str, Any]:
    """The compose file with its variables replaced. Raises MissingVariableError."""
    parsed = yaml.safe_load(COMPOSE.read_text() if text is None else text)
    replaced: dict[str, Any] = _interpolated(parsed, variables)
    return replaced


def named_variables() -> dict[str, set[str]]:
    """The variables that the compose file reads, each with how: `:?` must be set, `:-` has a default, or nothing."""
    named: dict[str, set[str]] = {}
    for found in _VARIABLE.finditer(COMPOSE.read_text()):
        if found["name"]:
            named.setdefault(found["name"], set()).add(found["how"] or "")
    return named


def _interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    match value:
        case str():
            return _VARIABLE.sub(lambda found: _value(found, variables), value)
        case dict():
            return {name: _interpolated(each, variables) for name, each in value.items()}
        case list():
            return [_interpolated(each, variables) for each in value]
    return value


def _value(found: re.Match[str], variables: Mapping[str, str]) -> str:
    if not found["name"]:
        return "$"
    value = variables.get(found["name"], "")
    if not value and found["how"] == ":?":
        raise MissingVariableError(found["name"])
    return value or (found["rest"] if found["how"] == ":-" else "")


def read_env_file(text: str) -> dict[str, str]:
    """The variables of an env file whose values are plain or in single quotes."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    pairs = [re.fullmatch(r"(\w+)=(?:'([^']*)'|([^'\"$#\s]*))", line) for line in lines]
    assert all(pairs), lines
    return {pair[1]: pair[2] or pair[3] or "" for pair in pairs if pair}


class Instruction(msgspec.Struct, frozen=True):
    """A line of the Dockerfile: the number of its stage, its flags by name, and its words, or those of its JSON array.

    The words of RUN and HEALTHCHECK are one text; HEALTHCHECK's command is one of its own, `HEALTHCHECK CMD`.
    """

    stage: int
    name: str
    flags: dict[str, str]
    words: list[str]


def dockerfile(text: str | None = None) -> list[Instruction]:
    """Every instruction, in order."""
    found: list[Instruction] = []
    stage = -1
    for line in _joined(DOCKERFILE.read_text() if text is None else text):
        name, _, rest = line.partition(" ")
        name = name.upper()
        if name == "HEALTHCHECK":
            flags, rest = _flags(rest)
            assert rest.startswith("CMD ")
            found.append(Instruction(stage, "HEALTHCHECK CMD", flags, json.loads(rest.removeprefix("CMD "))))
            continue
        stage += name == "FROM"
        flags, rest = _flags(rest)
        words = json.loads(rest) if rest.startswith("[") else [rest] if name == "RUN" else rest.split()
        found.append(Instruction(stage, name, flags, words))
    return found


def _joined(text: str) -> Iterator[str]:
    kept = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(kept)).splitlines():
        if line.strip():
            yield line.strip()


def _flags(text: str) -> tuple[dict[str, str], str]:
    flags = {}
    while found := re.match(r"--([\w-]+)=(\S+)\s+", text):
        flags[found[1]] = found[2]
        text = text[found.end() :]
    return flags, text


def final(name: str) -> list[Instruction]:
    """The instructions of that name in the last stage, which becomes the image."""
    every = dockerfile()
    return [each for each in every if each.stage == every[-1].stage and each.name == name]


def image_environment() -> dict[str, str]:
    """What ENV sets in the image, but for the PATH."""
    pairs = [word.partition("=") for each in final("ENV") for word in each.words]
    return {name: value for name, _, value in pairs if name != "PATH"}


def copied(stage: int) -> list[tuple[str, str]]:
    """What a stage copies from the repository: source and destination."""
    own = [each for each in dockerfile() if each.stage == stage and each.name == "COPY" and "from" not in each.flags]
    return [(source, each.words[-1]) for each in own for source in each.words[:-1]]


def in_context(name: str, text: str | None = None) -> bool:
    """Whether a file is sent to the Docker engine: the last pattern of .dockerignore that fits it says so."""
    ignored = False
    for line in (text or (REPOSITORY / ".dockerignore").read_text()).splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#") and _fits(name, pattern.lstrip("!")):
            ignored = not pattern.startswith("!")
    return not ignored


def _fits(name: str, pattern: str) -> bool:
    """Whether a path, or a directory above it, fits a pattern; `**/` stands for any number of directories."""
    parts = name.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    if pattern.startswith("**/"):
        return any(fnmatch.fnmatchcase(part, pattern.removeprefix("**/")) for part in parts)
    return any(each.count("/") == pattern.count("/") and fnmatch.fnmatchcase(each, pattern) for each in above)
