"""The help: a newcomer finds the way by it, and everything that it says is so."""

import re
import shlex
import typing

import click
import pytest

from quarterdeck.cli import exits
from quarterdeck.cli.groups import LONGEST_LINE
from quarterdeck.cli.main import SECTIONS, commands, run
from quarterdeck.cli.serve import serve
from quarterdeck.config import Settings
from quarterdeck.domain.queue import LATER, QueuePatch


def walk(command, path=()):
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, (*path, name))


EVERY = dict(walk(commands))


def test_every_command_stands_in_one_section_of_the_help(capsys):
    assert sorted(command.name for section in SECTIONS.values() for command in section) == sorted(commands.commands)
    assert run(["--help"]) == exits.DONE
    shown = capsys.readouterr().out
    for heading, section in SECTIONS.items():
        assert f"\n{heading}:\n" in shown
        for command in section:
            assert re.search(rf"^  {command.name} +\S", shown, re.MULTILINE), command.name
    assert "qd demo" in shown


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_a_line_of_a_list_of_commands_is_not_cut(path):
    command = EVERY[path]
    short = command.get_short_help_str(LONGEST_LINE)
    assert short, path
    assert not short.endswith("..."), short


EXAMPLES = [
    line.strip() for command in EVERY.values() for line in (command.epilog or "").splitlines() if line.startswith("  ")
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_what_the_program_takes(example):
    words = shlex.split(example, comments=True)
    words = [word for word in words if not re.fullmatch(r"QUARTERDECK_\w+=.*", word)]
    if words[0] == "eval":
        words = shlex.split(words[1].removeprefix("$(").removesuffix(")"))
    if "|" in words:
        words = words[: words.index("|")]
    assert words[0] == "qd"
    context = click.Context(commands)
    command, arguments = commands, words[1:]
    while isinstance(command, click.Group) and arguments[0] != "COMMAND":
        _, command, arguments = command.resolve_command(context, arguments)
    if "--help" not in arguments:
        command.make_context(" ".join(words), arguments)


def test_there_are_examples():
    assert len(EXAMPLES) > 15


@pytest.mark.parametrize("name", ["role", "log_level", "log_format"])
def test_a_choice_of_serve_is_the_one_of_the_setting(name):
    (option,) = [option for option in serve.params if option.name == name]
    (literal, *_) = typing.get_args(typing.get_type_hints(Settings, include_extras=True)[name])
    assert option.type.choices == typing.get_args(literal)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_help_fits_the_terminal(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    for path in EVERY:
        assert run([*path, "--help"]) == exits.DONE
    shown = capsys.readouterr().out
    assert "Usage: qd jobs list" in shown
    assert "..." not in shown.partition("Usage: qd serve")[0].replace("[ARGS]...", ""), "the list of commands is whole"


def test_the_settings_of_a_queue_that_can_be_set_are_named():
    settings = set(QueuePatch.__struct_fields__) - set(LATER)
    (line,) = EVERY["queues", "set"].help.partition("NAME: ")[2].splitlines()[:1]
    assert set(re.findall(r"\w+", line.partition(".")[0])) == settings
