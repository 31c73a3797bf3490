"""Which service is meant: what cannot be one is told before anybody is asked, and no secret is shown."""

import pytest

from quarterdeck.cli import exits
from quarterdeck.cli.destination import Destination
from quarterdeck.cli.exits import CommandError


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("QUARTERDECK_URL", "QUARTERDECK_API_KEY", "QUARTERDECK_API_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (None, "http://127.0.0.1:8000"),
        ("http://host/", "http://host"),
        ("https://host:1234/a/prefix/", "https://host:1234/a/prefix"),
        ("HTTP://[::1]:80", "HTTP://[::1]:80"),
    ],
)
def test_a_url_is_taken_without_its_last_slash(given, url):
    assert Destination.of(given, None) == Destination(url, None, "QUARTERDECK_API_KEY")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:8000", "did you mean http://localhost:8000?"),
        ("//localhost:8000/jobs", "did you mean http://localhost:8000/jobs?"),
        ("ftp://host", "it begins with http:// or https://"),
        ("http://", "it begins with http:// or https://"),
        ("http://host:port", "is no URL of a service"),
        ("http://host:99999", "is no URL of a service"),
        ("http://[::1", "is no URL of a service"),
        ("http://host/?a=b", "it ends with the host, the port or a path"),
        ("http://host/#a", "it ends with the host, the port or a path"),
        ("http://host/a b", "it ends with the host, the port or a path"),
        ("http://host/\x1b[2J", "is no URL of a service"),
    ],
)
def test_what_is_no_url_is_told_with_what_is_one(url, words, monkeypatch):
    with pytest.raises(CommandError) as caught:
        Destination.of(url, None)
    assert caught.value.exit_code == exits.WRONG_USAGE
    assert words in caught.value.message
    assert "\x1b" not in caught.value.message
    monkeypatch.setenv("QUARTERDECK_URL", url)
    with pytest.raises(CommandError, match="in QUARTERDECK_URL is no URL"):
        Destination.of(None, None)


@pytest.mark.parametrize("url", ["http://me:a-secret@host", "me:a-secret@host", "http://a-secret@host:1"])
def test_a_url_with_a_secret_is_refused_and_not_shown(url):
    with pytest.raises(CommandError, match="give a key, with --api-key") as caught:
        Destination.of(url, None)
    assert "a-secret" not in caught.value.message


@pytest.mark.parametrize("key", ["a-secret\nmore", "a-secret\x7f", "a-ключ-secret", "a-secret\x00"])
def test_a_key_that_no_header_holds_is_refused_and_not_shown(key):
    with pytest.raises(CommandError, match="the API key holds characters that no key has") as caught:
        Destination.of(None, key)
    assert "secret" not in caught.value.message


def test_space_around_a_key_does_not_matter():
    # It would end in an error that shows the header, and with it the key.
    assert Destination.of(None, " a-secret-of-some-length\n").api_key == "a-secret-of-some-length"
    assert Destination.of(None, "  ").api_key is None
