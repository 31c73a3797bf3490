"""Hypercorn keeps unknown keys and wrong types without a word; what stands in hypercorn.toml must be real."""

import tomllib
from pathlib import Path

import pytest
from hypercorn.config import Config

FILE = Path(__file__).parents[2] / "hypercorn.toml"
KEYS = tomllib.loads(FILE.read_text())

# Keys whose default is None, so that the default does not tell their type.
TYPES = {"accesslog": str, "websocket_ping_interval": (int, float)}


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_a_setting_of_hypercorn_and_has_its_type(key):
    assert hasattr(Config, key), f"Hypercorn has no setting {key}"
    default = getattr(Config(), key)
    expected = TYPES.get(key) or ((int, float) if isinstance(default, float) else type(default))
    assert isinstance(KEYS[key], expected)
    assert isinstance(KEYS[key], bool) == isinstance(default, bool)


def test_the_file_loads_as_it_is_written():
    config = Config.from_toml(FILE)
    assert {key: getattr(config, key) for key in KEYS} == KEYS


def test_the_default_bind_is_the_documented_one():
    assert KEYS["bind"] == ["127.0.0.1:8000"]


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("read_timeout", "it cuts slow answers, long polls and streams, since it counts the client's silence"),
        ("max_requests", "it ends the process, and the jobs in it with it"),
    ],
)
def test_harmful_settings_stay_out(key, reason):
    assert key not in KEYS, reason


def test_workers_may_have_children_where_handlers_run():
    assert KEYS["daemon"] is False
