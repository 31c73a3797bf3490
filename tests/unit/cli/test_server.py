"""Hypercorn's file: found, and refused where Hypercorn would ignore a mistake."""

import logging
from pathlib import Path

import pytest

from quarterdeck.cli import server
from quarterdeck.cli.server import RequestLogger, load_config
from quarterdeck.config import ConfigError
from quarterdeck.telemetry.requests import RECORD, RequestRecord

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(text, name="hypercorn.toml"):
    path = Path(name)
    path.write_text(text)
    return path


def test_the_one_that_comes_along_is_used_where_there_is_no_other():
    config = load_config()
    assert (config.backlog, config.keep_alive_timeout) == (2048, 65)


def test_an_installed_package_has_a_copy(tmp_path, monkeypatch):
    package = tmp_path / "quarterdeck"
    package.mkdir()
    (package / "hypercorn.toml").write_text("backlog = 7")
    monkeypatch.setattr(server.quarterdeck, "__file__", str(package / "__init__.py"))
    assert load_config().backlog == 7


def test_the_one_in_the_working_directory_is_preferred_and_a_named_one_to_that():
    write("backlog = 5")
    assert load_config().backlog == 5
    assert load_config(write("backlog = 6", "other.toml")).backlog == 6


def test_every_key_of_our_own_file_passes():
    assert load_config(REPOSITORY / "hypercorn.toml").include_server_header is False


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("backlogs = 5", "unknown setting 'backlogs' in .*; did you mean backlog?"),
        ("_bind = ['x']", "unknown setting '_bind'"),
        ("create_sockets = 1", "unknown setting 'create_sockets'"),
        ('backlog = "many"', "backlog = 'many' in .*: expected such as 100"),
        ("backlog = true", "backlog = True"),
        ("include_server_header = 1", "include_server_header = 1"),
        ('alpn_protocols = "h2"', "alpn_protocols = 'h2'"),
        ("backlog =", "cannot be read"),
    ],
)
def test_what_hypercorn_would_ignore_is_refused(text, words):
    with pytest.raises(ConfigError, match=words):
        load_config(write(text))


@pytest.mark.parametrize(
    "text",
    ["backlog = 5", "graceful_timeout = 1.5", "keep_alive_timeout = 3", "read_timeout = 9", 'certfile = "x.pem"'],
)
def test_what_hypercorn_knows_is_taken(text):
    load_config(write(text))


def test_a_named_file_must_exist():
    with pytest.raises(ConfigError, match=r"nowhere\.toml cannot be read: No such file"):
        load_config(Path("nowhere.toml"))


def test_one_process_serves_whatever_the_file_says():
    config = load_config(write("workers = 4\ndebug = true"))
    assert (config.workers, config.debug) == (1, False)


def test_its_lines_take_the_way_of_all_others(monkeypatch):
    # Other tests in this process may have served with a configuration of Hypercorn's own.
    monkeypatch.setattr(logging.getLogger("hypercorn.error"), "handlers", [])
    config = load_config(write('accesslog = "-"\nerrorlog = "-"'))
    assert isinstance(config.log, RequestLogger)
    assert config.log.access_logger is logging.getLogger("hypercorn.access")
    assert config.log.error_logger is logging.getLogger("hypercorn.error")
    assert config.log.error_logger.handlers == []


def request(**fields):
    return {
        "type": "http",
        "method": "GET",
        "path": "/v1/jobs",
        "query_string": b"ticket=secret",
        "headers": [],
        **fields,
    }


async def test_a_request_is_logged_as_an_event_without_its_query(caplog):
    caplog.set_level(logging.INFO)
    config = load_config(write('accesslog = "-"'))
    await config.log.access(request(client=("10.0.0.1", 5)), {"status": 200, "headers": []}, 0.1234567)
    await config.log.access(request(client=None), None, 0.5)
    first, second = [record.getMessage() for record in caplog.records]
    for field in (
        "request.answered",
        "method='GET'",
        "path='/v1/jobs'",
        "status=200",
        "seconds=0.123457",
        "'10.0.0.1'",
    ):
        assert field in first
    assert "status=None" in second
    assert "secret" not in first


async def test_what_the_service_knows_of_a_request_is_logged_with_it(caplog):
    caplog.set_level(logging.INFO)
    config = load_config(write('accesslog = "-"'))
    record = RequestRecord("request-7", principal="ann", route="/v1/jobs/{id}", status=200, bytes=512)
    scope = request(path="/v1/jobs/7", headers=[(b"authorization", b"Bearer secret")], **{RECORD: record})
    await config.log.access(scope, {"status": 200, "headers": []}, 0.1)
    (line,) = [record.getMessage() for record in caplog.records]
    for field in (
        "request_id='request-7'",
        "route='/v1/jobs/{id}'",
        "path='/v1/jobs/7'",
        "bytes=512",
        "principal='ann'",
    ):
        assert field in line
    assert "secret" not in line


async def test_requests_are_not_logged_where_the_file_does_not_ask_for_it(caplog):
    caplog.set_level(logging.INFO)
    await load_config(write("backlog = 5")).log.access(request(), {"status": 200, "headers": []}, 0.1)
    assert caplog.records == []
