"""What keeps `qd serve` from starting is told in one line, with an exit code; nothing is left behind."""

import socket

import pytest

from tests.support.commands import qd
from tests.support.processes import REPOSITORY, cleaned_up, free_port, running_service, start_service

pytestmark = pytest.mark.timeout(120)


def refused(done, code, *words):
    """Assert that a command ended with `code` and one line that holds `words`, on stderr."""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert (done.returncode, len(lines)) == (code, 1), done.stderr
    assert lines[0].startswith("qd: ")
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in done.stderr


def serve(*arguments, settings=None, cwd=REPOSITORY):
    bind = {"QUARTERDECK_BIND": f"127.0.0.1:{free_port()}"}
    return qd("serve", *arguments, settings={**bind, **(settings or {})}, cwd=cwd)


def test_a_port_in_use(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        refused(serve("--bind", bind, "--data-dir", str(tmp_path / "data")), 2, bind, "in use", "--bind")
    assert not (tmp_path / "data").exists(), "nothing is started before the port is known to be free"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"QUARTERDECK_CONCURENCY": "5"}, ["QUARTERDECK_CONCURENCY", "did you mean QUARTERDECK_CONCURRENCY?"]),
        ({"QUARTERDECK_CONCURRENCY": "many"}, ["concurrency = 'many'", "QUARTERDECK_CONCURRENCY", "1 to 10000"]),
        ({"QUARTERDECK_LEASE": "0.1"}, ["lease = '0.1'", "to 300"]),
        ({"QUARTERDECK_BIND": "0.0.0.0:0"}, ["reached from other machines", "QUARTERDECK_API_KEYS"]),
        ({"QUARTERDECK_APP": "no.such.module:deck"}, ["no module 'no'"]),
        ({"QUARTERDECK_APP": "tests.e2e.decks:missing"}, ["'missing' is not a Quarterdeck object"]),
    ],
)
def test_a_setting_that_cannot_be_used(tmp_path, settings, words):
    refused(serve("--data-dir", str(tmp_path / "data"), settings=settings), 2, *words)
    assert not (tmp_path / "data").exists()


def test_a_misspelt_name_in_the_settings_file(tmp_path):
    (tmp_path / "quarterdeck.toml").write_text("concurency = 5\n")
    refused(serve(cwd=tmp_path), 2, "unknown setting 'concurency' in quarterdeck.toml; did you mean concurrency?")


def test_a_misspelt_name_in_hypercorn_s_file(tmp_path):
    (tmp_path / "hypercorn.toml").write_text("keepalive_timeout = 5\n")
    refused(serve(cwd=tmp_path), 2, "unknown setting 'keepalive_timeout'", "did you mean keep_alive_timeout?")


def test_an_app_that_cannot_be_imported_is_told_with_its_place(tmp_path):
    (tmp_path / "broken.py").write_text("import json\njson.loads('{')\n")
    done = serve("broken:deck", cwd=tmp_path)
    refused(done, 2, "app 'broken:deck' cannot be imported: JSONDecodeError", "broken.py, line 2")


def test_a_data_directory_that_is_not_writable(tmp_path):
    (tmp_path / "file").touch()
    done = serve("--data-dir", str(tmp_path / "file" / "data"))
    refused(done, 2, str(tmp_path / "file"), "QUARTERDECK_DATA_DIR")


async def test_a_database_that_is_ahead(tmp_path, database_url, connection):
    await connection.execute(
        "insert into quarterdeck.migration (version, name, checksum, duration_ms) values (9999, 'future', 'x', 1)"
    )
    with cleaned_up(start_service(tmp_path, settings={"QUARTERDECK_DATABASE_URL": database_url})) as service:
        assert await service.wait() == 4
    assert "qd: the database is ahead: 9999_future" in service.log()
    assert "Traceback" not in service.log()


async def test_a_database_that_has_drifted(tmp_path, database_url, connection):
    await connection.execute("update quarterdeck.migration set checksum = 'another' where version = 1")
    with cleaned_up(start_service(tmp_path, settings={"QUARTERDECK_DATABASE_URL": database_url})) as service:
        assert await service.wait() == 4
    assert "qd: the database has drifted: 0001_initial" in service.log()


async def test_a_database_that_is_behind_is_refused_only_without_migrations(tmp_path, empty_database):
    settings = {"QUARTERDECK_DATABASE_URL": empty_database}
    with cleaned_up(start_service(tmp_path, "--no-migrate", settings=settings)) as service:
        assert await service.wait() == 4
        assert "qd: the database is behind: 0001_initial" in service.log()
        assert "qd migrate up" in service.log()
    async with running_service(tmp_path, settings=settings) as service:
        assert await service.stop() == 0


async def test_a_database_that_does_not_exist(tmp_path, database_url):
    settings = {"QUARTERDECK_DATABASE_URL": database_url.replace("/qd_", "/no_qd_")}
    with cleaned_up(start_service(tmp_path, settings=settings)) as service:
        assert await service.wait() == 2
    assert "qd: the database refuses: database" in service.log()
