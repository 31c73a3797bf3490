"""What a call sends, what it makes of the answer, and where redirects lead it."""

import asyncio
import json

import pytest

from quarterdeck.handlers.dialer import CallFailed, TargetRefused
from quarterdeck.handlers.http import AnswerAsksForRetry, AnswerRefused
from quarterdeck.version import __version__
from tests.integration.handlers.conftest import JOB
from tests.support.processes import free_port
from tests.support.waiting import eventually
from tests.support.web_servers import always, by_path, reply, web_server


def moved(location, status=302):
    return reply(status, b"", {"Location": location})


async def test_a_call_names_the_job_the_run_and_the_program(call):
    async with web_server() as server:
        result = await call(server.url("/a%20b?c=d#e"))
    assert 0 <= result.pop("elapsed") < 5
    assert result == {"status": 200, "headers": {"content-length": "2"}, "body": "ok"}
    (asked,) = server.asked
    assert (asked.method, asked.target, asked.body) == ("GET", "/a%20b?c=d", b"")
    assert asked.headers == {
        "host": f"127.0.0.1:{server.port}",
        "accept": "*/*",
        "accept-encoding": "identity",
        "user-agent": f"quarterdeck/{__version__}",
        "idempotency-key": str(JOB),
        "quarterdeck-fence": "3",
    }


async def test_a_body_makes_it_a_post_with_a_type(call):
    async with web_server() as server:
        await call(server.url(), json={"name": "é", "n": [1, None]})
        await call(server.url(), json=None)
        await call(server.url(), body="plain é")
        await call(server.url(), body="<a/>", method="PUT", headers={"content-type": "text/xml", "X-A": " b "})
        await call(server.url(), method="POST")
    sent = [(asked.method, asked.headers.get("content-type"), asked.body) for asked in server.asked]
    assert sent == [
        ("POST", "application/json", '{"name":"é","n":[1,null]}'.encode()),
        ("POST", "application/json", b"null"),
        ("POST", "text/plain; charset=utf-8", "plain é".encode()),
        ("PUT", "text/xml", b"<a/>"),
        ("POST", None, b""),
    ]
    assert server.asked[3].head.lower().count("content-type") == 1
    assert server.asked[3].headers["x-a"] == "b"
    assert server.asked[4].headers["content-length"] == "0"


async def test_the_usual_headers_can_be_set_and_the_wire_shows_one_request(call):
    async with web_server() as server:
        await call(server.url(), headers={"User-Agent": "mine", "Accept": "text/csv", "X-Odd": "\xe9 ;\t=,"})
    (asked,) = server.asked
    assert (asked.headers["user-agent"], asked.headers["accept"]) == ("mine", "text/csv")
    assert asked.headers["x-odd"] == "\xe9 ;\t=,"
    assert asked.head.count("\r\n") == len(asked.headers) + 2


async def test_json_is_decoded_and_a_head_has_no_body(call):
    document = {"items": [1, 2.5, None, "é"]}
    headers = {"Content-Type": "application/json"}
    async with web_server(always(reply(200, json.dumps(document).encode(), headers))) as server:
        assert (await call(server.url()))["json"] == document
    async with web_server(always(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")) as server:
        assert (await call(server.url(), method="HEAD"))["body"] == ""


@pytest.mark.parametrize("status", [301, 304, 400, 401, 404, 410, 425, 489])
async def test_an_answer_that_another_try_would_not_change_is_refused(call, status):
    async with web_server(always(reply(status, b"" if status == 304 else b"because"))) as server:
        with pytest.raises(AnswerRefused, match=rf"^GET http://127.0.0.1:{server.port}/x was answered {status}") as why:
            await call(server.url("/x?token=secret"))
    assert "secret" not in str(why.value)
    assert getattr(why.value, "__notes__", []) == ([] if status == 304 else ["because"])


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 599])
async def test_an_answer_that_may_go_better_later_says_when(call, status):
    async with web_server(always(reply(status, b"", {"Retry-After": "17"}))) as server:
        with pytest.raises(AnswerAsksForRetry) as why:
            await call(server.url())
        assert why.value.seconds == 17
        assert (await call(server.url(), expect=[status]))["status"] == status


async def test_what_is_expected_and_only_that_completes(call):
    async with web_server(by_path({"/made": reply(201)})) as server:
        assert (await call(server.url("/none"), expect=[404]))["status"] == 404
        with pytest.raises(AnswerRefused):
            await call(server.url("/made"), expect=[200])


async def test_nobody_there_is_a_failed_attempt(call):
    with pytest.raises(CallFailed, match=r"^cannot connect to 127\.0\.0\.1:\d+: .*refused"):
        await call(f"http://127.0.0.1:{free_port()}/")
    with pytest.raises(CallFailed, match=r"^cannot find the host no-such-host\.invalid"):
        await call("http://no-such-host.invalid/")


async def test_a_handshake_that_is_broken_off_is_a_failed_attempt_that_says_so(call):
    async def hang_up(reader, writer):
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(CallFailed, match=r"^cannot connect to 127\.0\.0\.1:\d+: \w"):
        await call(f"https://127.0.0.1:{port}/")
    server.close()


async def test_connections_are_used_again_but_only_for_the_same_place(call):
    async with web_server() as one, web_server() as other:
        for _ in range(5):
            await call(one.url())
            await call(other.url())
        assert (one.connections, other.connections) == (1, 1)


# Redirects


async def test_a_redirect_is_followed_only_where_that_is_asked_for(call):
    async with web_server(by_path({"/a": moved("/b"), "/b": reply(200, b"there")})) as server:
        with pytest.raises(AnswerRefused, match="302"):
            await call(server.url("/a"))
        assert (await call(server.url("/a"), expect=[302]))["headers"]["location"] == "/b"
        result = await call(server.url("/a"), follow_redirects=True, headers={"Authorization": "Bearer x"})
        assert (result["body"], result["url"]) == ("there", server.url("/b"))
        assert server.asked[-1].headers["authorization"] == "Bearer x"
        unmoved = await call(server.url("/a"), follow_redirects=True, expect=[302])
        assert unmoved["status"] == 302


@pytest.mark.parametrize(
    ("status", "method", "after"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (307, "POST", "POST"),
        (308, "PUT", "PUT"),
        (301, "PUT", "PUT"),
    ],
)
async def test_a_redirect_keeps_the_method_or_turns_it_into_get(call, status, method, after):
    async with web_server(by_path({"/a": moved("/b", status), "/b": reply(200, b"")})) as server:
        await call(server.url("/a"), method=method, body="text", follow_redirects=True)
    last = server.asked[-1]
    assert (last.method, last.body) == (after, b"" if after == "GET" else b"text")
    assert ("content-type" in last.headers) is (after != "GET")


async def test_elsewhere_no_header_of_the_caller_goes_along(call):
    async with web_server() as there, web_server(always(moved(there.url("/b"), 307))) as here:
        headers = {"Authorization": "Bearer x", "X-Api-Key": "k", "Cookie": "c=d", "Content-Type": "text/csv"}
        await call(here.url(), body="1,2", headers=headers, follow_redirects=True)
    (asked,) = there.asked
    assert not {"authorization", "x-api-key", "cookie"} & set(asked.headers)
    assert (asked.method, asked.body, asked.headers["content-type"]) == ("POST", b"1,2", "text/csv")
    assert asked.headers["idempotency-key"] == str(JOB)


async def test_three_redirects_are_enough(call):
    chain = {f"/{number}": moved(f"/{number + 1}") for number in range(9)} | {"/9": reply()}
    async with web_server(by_path(chain)) as server:
        assert (await call(server.url("/6"), follow_redirects=True))["url"] == server.url("/9")
        with pytest.raises(AnswerRefused, match="more than 3 redirects"):
            await call(server.url("/5"), follow_redirects=True)
        assert len(server.asked) == 4 + 4
    async with web_server(always(moved("/"))) as loop:
        with pytest.raises(AnswerRefused):
            await call(loop.url(), follow_redirects=True)
        assert len(loop.asked) == 4


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "gopher://127.0.0.1/", "http://user@127.0.0.1/", "http://[::1", "//127.0.0.1:99999/"],
)
async def test_a_redirect_to_what_cannot_be_called_is_refused(call, location):
    async with web_server(always(moved(location))) as server:
        with pytest.raises(TargetRefused, match="redirects to a place that"):
            await call(server.url(), follow_redirects=True)


# Between jobs


async def test_a_cookie_that_one_answer_sets_is_in_no_other_request(call):
    async with web_server(always(reply(200, b"", {"Set-Cookie": "tenant=a; Path=/"}))) as server:
        assert (await call(server.url()))["headers"]["set-cookie"] == "tenant=a; Path=/"
        await call(server.url())
    assert "cookie" not in server.asked[1].headers


async def test_the_environment_says_nothing(call, monkeypatch, tmp_path):
    async with web_server() as proxy, web_server() as server:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url())
        netrc = tmp_path / ".netrc"
        netrc.write_text("machine 127.0.0.1 login me password secret\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        await call(server.url())
    assert proxy.connections == 0
    assert "authorization" not in server.asked[0].headers


async def test_what_a_server_sends_behind_an_answer_is_no_answer_to_the_next_request(call):
    async def twice(asked, writer):
        writer.write(reply(200, b"right") + reply(200, b"planted"))

    async with web_server(twice) as server:
        for _ in range(3):
            assert (await call(server.url()))["body"] == "right"
        assert server.connections == 3


@pytest.mark.parametrize("ends", [False, True], ids=["and waits", "and hangs up"])
async def test_what_a_server_sends_while_nobody_asks_is_no_answer_to_the_next_request(
    call, outbound, ends, monkeypatch
):
    """Some say "408 Request Timeout" before they close a connection that waits."""
    monkeypatch.setattr("quarterdeck.handlers.outbound.KEEP_SECONDS", 60.0)
    go = asyncio.Event()

    async def later(asked, writer):
        writer.write(reply(200, b"right"))
        await writer.drain()
        if len(server.asked) == 1:
            await go.wait()
            writer.write(reply(408, b"planted"))
            if ends:
                await writer.drain()
                writer.close()

    async with web_server(later) as server:
        assert (await call(server.url()))["body"] == "right"
        (line,) = outbound._kept
        assert line.reusable
        go.set()
        await eventually(lambda: not line.reusable)
        assert (await call(server.url()))["body"] == "right"
        assert server.connections == 2


async def test_a_connection_that_the_server_has_closed_is_not_used_again(call):
    async def once(asked, writer):
        writer.write(reply())
        await writer.drain()
        writer.close()

    async with web_server(once) as server:
        for _ in range(3):
            assert (await call(server.url()))["body"] == "ok"
            await eventually(lambda: not server.open)
