"""`qd config show`: every setting, its origin, no secret."""

import json
import os

import pytest

from quarterdeck.cli.main import run
from quarterdeck.config import settings_table

SECRET = "a-secret-of-some-length"


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("QUARTERDECK_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quarterdeck.toml").write_text("concurrency = 7\n")
    monkeypatch.setenv("QUARTERDECK_API_KEYS", f"me:{SECRET}")
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", f"postgresql://me:{SECRET}@db/x")


def test_json_gives_each_setting_with_its_value_and_origin(capsys):
    assert run(["config", "show", "--json"]) == 0
    out = capsys.readouterr().out
    shown = json.loads(out)
    assert list(shown) == [info.name for info in settings_table()]
    assert shown["concurrency"] == {"value": 7, "origin": "file quarterdeck.toml"}
    assert shown["lease"] == {"value": 15.0, "origin": "default"}
    assert shown["api_keys"] == {"value": "***", "origin": "environment QUARTERDECK_API_KEYS"}
    assert SECRET not in out


def test_people_get_a_table_without_secrets(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["config", "show"]) == 0
    out = capsys.readouterr().out
    assert any(line.split()[:4] == ["concurrency", "7", "file", "quarterdeck.toml"] for line in out.splitlines())
    assert "postgresql://me:***@db/x" in out
    assert SECRET not in out


def test_a_narrow_terminal_gets_no_meanings(capsys, monkeypatch):
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "60"}.items():
        monkeypatch.setenv(name, value)
    assert run(["config", "show"]) == 0
    told = capsys.readouterr()
    assert "concurrency" in told.out
    assert "Address to" not in told.out
    assert told.err == "left out for want of room: meaning; --json has everything\n"


def test_a_named_file_takes_the_place_of_the_usual_one(tmp_path, capsys):
    (tmp_path / "other.toml").write_text("lease = '20s'\n")
    assert run(["config", "show", "--json", "--config", "other.toml"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["lease"]["value"], shown["concurrency"]["value"]) == (20.0, 100)


def test_an_unknown_setting_is_named_with_the_nearest(capsys, monkeypatch):
    monkeypatch.setenv("QUARTERDECK_CONCURENCY", "7")
    assert run(["config", "show"]) == 2
    assert "QUARTERDECK_CONCURENCY; did you mean QUARTERDECK_CONCURRENCY?" in capsys.readouterr().err
