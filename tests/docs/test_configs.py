"""The files and answers that pages show are such as their readers take, or as the service gives."""

import json
import tomllib

import yaml

from quarterdeck.config import load
from quarterdeck.web.queues import QueueBody
from tests.docs.documents import REFERENCE, Block, blocks


def block_of(page: str, language: str) -> Block:
    (found,) = [block for block in blocks(REFERENCE / page) if block.language == language and block.marker]
    return found


def test_the_settings_file_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = block_of("settings.md", "toml").text
    (tmp_path / "quarterdeck.toml").write_text(text)
    shown = tomllib.loads(text)
    settings = load(environ={}).settings
    assert settings.shutdown_grace == 30
    del shown["shutdown_grace"]
    assert {name: getattr(settings, name) for name in shown} == shown


def test_the_configuration_of_prometheus_has_keys_that_it_knows():
    # As in its manual, "scrape_config".
    (scrape,) = yaml.safe_load(block_of("metrics.md", "yaml").text)["scrape_configs"]
    assert set(scrape) == {"job_name", "authorization", "static_configs"}
    assert set(scrape["authorization"]) == {"credentials_file"}
    assert all(target.endswith(":8000") for each in scrape["static_configs"] for target in each["targets"])


def test_a_queue_is_shown_with_every_field():
    shown = json.loads(block_of("http-api.md", "json").text)
    assert list(shown) == list(QueueBody.__struct_fields__)
