import msgspec
import pytest

from quarterdeck.domain.errors import ArgsError
from quarterdeck.handlers import built_in
from quarterdeck.handlers.http import KIND

URL = "https://api.example.com/x"
HANDLER = next(handler for handler in built_in() if handler.kind == KIND)


def bound(**args):
    return HANDLER.bind({"url": URL, **args})


def misfit(**args):
    with pytest.raises(ArgsError) as refused:
        bound(**args)
    return refused.value.error.pointer


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "HTTPS://example.com:8443/a?b=c#d",
        "http://127.0.0.1/",  # addresses are looked at when it connects
        "http://[::1]:8080/",
        "http://2130706433/",
        "http://bücher.example/",
        "http://metadata.google.internal/",
        "http://127.0.0.1#@good",
        "http://xn--i-7iq.example/",  # a heart: not in IDNA 2008, and in use
        "http://localhost.",
        "http://[::ffff:127.0.0.1]/",
        "http://" + "a" * 63 + ".com/",
    ],
)
def test_whatever_is_http_is_taken(url):
    assert bound(url=url)["url"] == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:11211/_stats",
        "unix:/var/run/docker.sock",
        "javascript:alert(1)",
        " http://example.com",
        "http:/example.com",
        "http:example.com",
        "http://",
        "http:///path",
        "http://example.com:0/",
        "http://example.com:99999/",
        "http://example.com:port/",
        "http://exa mple.com/",
        "http://example.com/\r\nHost: evil",
        "http://example.com/\n",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://good@127.0.0.1/",
        "http://user:password@example.com/",
        "http://good.test\\@127.0.0.1/",
        "http://" + "a" * 300 + ".com/",
        "http://" + "a" * 64 + ".com/",
        "http://example..com/",
        "http://.com/",
        "http://./",
        "http://com../",
        "http://example.com/" + "a" * 9000,
        7,
        None,
    ],
)
def test_what_cannot_be_called_is_refused_at_its_place(url):
    assert misfit(url=url) == "/args/url"


@pytest.mark.parametrize(
    ("args", "pointer"),
    [
        ({"method": "get"}, "/args/method"),
        ({"method": "CONNECT"}, "/args/method"),
        ({"method": "GET / HTTP/1.1\r\nX: y"}, "/args/method"),
        ({"headers": []}, "/args/headers"),
        ({"headers": {"X": 1}}, "/args/headers"),
        ({"headers": {"X": "a\r\nEvil: 1"}}, "/args/headers"),
        ({"headers": {"X": "a\n"}}, "/args/headers"),
        ({"headers": {"X": "a\0"}}, "/args/headers"),
        ({"headers": {"X": "\u010a"}}, "/args/headers"),
        ({"headers": {"X": "a" * 9000}}, "/args/headers"),
        ({"headers": {"X\r\nEvil": "1"}}, "/args/headers"),
        ({"headers": {"X\n": "1"}}, "/args/headers"),
        ({"headers": {"X:": "1"}}, "/args/headers"),
        ({"headers": {"": "1"}}, "/args/headers"),
        ({"headers": {f"X-{number}": "1" for number in range(65)}}, "/args/headers"),
        ({"headers": {"Host": "evil"}}, "/args/headers/Host"),
        ({"headers": {"Content-Length": "0"}}, "/args/headers/Content-Length"),
        ({"headers": {"transfer-encoding": "chunked"}}, "/args/headers/transfer-encoding"),
        ({"headers": {"Connection": "close"}}, "/args/headers/Connection"),
        ({"headers": {"Expect": "100-continue"}}, "/args/headers/Expect"),
        ({"headers": {"IDEMPOTENCY-KEY": "mine"}}, "/args/headers/IDEMPOTENCY-KEY"),
        ({"headers": {"Quarterdeck-Fence": "99"}}, "/args/headers/Quarterdeck-Fence"),
        ({"json": {}, "body": "x"}, "/args/body"),
        ({"json": None, "body": ""}, "/args/body"),
        ({"body": {}}, "/args/body"),
        ({"expect": []}, "/args/expect"),
        ({"expect": [199]}, "/args/expect"),
        ({"expect": [600]}, "/args/expect"),
        ({"expect": [200.5]}, "/args/expect"),
        ({"expect": 200}, "/args/expect"),
        ({"follow_redirects": "yes"}, "/args/follow_redirects"),
        ({"verify": False}, "/args/verify"),
        ({"ctx": {}}, "/args/ctx"),
    ],
)
def test_a_misfit_is_refused_at_its_place(args, pointer):
    assert misfit(**args).startswith(pointer)


def test_arguments_that_fit():
    args = {
        "method": "PUT",
        "headers": {"Authorization": "Bearer x", "X-Name": "caf\u00e9\ttab"},
        "json": None,
        "expect": [200, 404],
        "follow_redirects": True,
    }
    assert bound(**args) == {"url": URL, "body": None, **args}
    assert bound()["json"] is msgspec.UNSET


def test_each_call_has_headers_of_its_own():
    bound()["headers"]["X"] = "y"
    assert bound()["headers"] == {}


def test_the_schema_shows_the_rules():
    properties = HANDLER.schema()["properties"]
    assert set(properties) == {"url", "method", "headers", "json", "body", "expect", "follow_redirects"}
    assert properties["url"]["pattern"] == "^[Hh][Tt][Tt][Pp][Ss]?://"
    assert HANDLER.schema()["required"] == ["url"]
    assert HANDLER.schema()["additionalProperties"] is False
    assert properties["expect"]["anyOf"][0]["items"] == {"type": "integer", "minimum": 200, "maximum": 599}
