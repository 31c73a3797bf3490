"""The link check: every link gets its word, whatever its server does."""

from functools import partial

import pytest

from examples.link_check import check
from quarterdeck.client import Client
from tests.support.processes import REPOSITORY, free_port, running_service
from tests.support.web_servers import reply, web_server


async def site(asked, writer):
    match asked.target:
        case "/fine":
            writer.write(reply())
        case "/moved":
            writer.write(reply(301, b"", {"Location": "/fine"}))
        case "/busy":
            writer.write(reply(503, b"", {"Retry-After": "0"}))
        case _:
            writer.write(reply(404))


@pytest.fixture
async def service(tmp_path, database_url):
    settings = {"QUARTERDECK_DATABASE_URL": database_url, "QUARTERDECK_ALLOW_PRIVATE_TARGETS": "127.0.0.1"}
    async with running_service(tmp_path, settings=settings) as service:
        yield service
        service.kill()  # its end is no matter here


async def test_every_link_gets_its_word(service, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(check, "SERVICE", service.url)
    monkeypatch.setitem(check.PATIENT, "retry", {"backoff": [0.01]})
    async with web_server(site) as server:
        fine, moved, gone, busy = (server.url(path) for path in ("/fine", "/moved", "/gone", "/busy"))
        words = {
            fine: "ok",
            moved: "moved",
            gone: "broken",
            busy: "away",
            f"http://127.0.0.1:{free_port()}/": "away",
            "http://127.0.0.2/": "broken",
            "ftp://example.com/": "broken",
        }
        assert await check.report("\n".join(["# mine", *words, "", f"  {fine}"])) == 1
        *lines, nothing, last = capsys.readouterr().out.splitlines()
        assert {line.split()[1]: line.split()[0] for line in lines} == words
        assert (len(lines), nothing) == (len(words), "")
        assert last == "7 links: 1 ok, 1 moved, 3 broken, 2 away"
        (told,) = [line for line in lines if moved in line]
        assert told.endswith(f"is now {fine})")
        asked = [each.target for each in server.asked]
        assert (asked.count("/busy"), asked.count("/gone")) == (3, 1)

        (tmp_path / "links").write_text(fine)
        program = run(service, "examples.link_check.check", str(tmp_path / "links"))
        await program.prints(lambda line: line == "1 links: 1 ok, 0 moved, 0 broken, 0 away")
        assert await program.leave() == 0


def test_the_program_says_how_it_is_used(capsys):
    assert check.main([]) == 2
    assert capsys.readouterr().err.startswith("usage: ")


def test_a_file_or_a_service_that_is_not_there_is_told_in_a_line(tmp_path, monkeypatch, capsys):
    assert check.main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'none'}: No such file or directory\n"
    monkeypatch.setattr(check, "SERVICE", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr(check, "Client", partial(Client, patience=0.1))
    (tmp_path / "links").write_text("http://a/\nhttp://b/")
    assert check.main([str(tmp_path / "links")]) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"no service can be reached at {check.SERVICE} ")
    assert told.err.count("\n") == 1


def test_the_links_that_come_with_it_can_be_read():
    text = (REPOSITORY / "examples" / "link_check" / "links.txt").read_text()
    assert len(check.read_links(text)) == len(text.splitlines()) - 1
