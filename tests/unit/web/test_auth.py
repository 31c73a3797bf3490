import pytest

from quarterdeck.web.auth import host_name


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost", "localhost"),
        ("LocalHost:80", "localhost"),
        ("jobs.example.org.", "jobs.example.org."),
        ("a_b-c.d", "a_b-c.d"),
        ("127.0.0.1:8000", "127.0.0.1"),
        ("[::1]:80", "::1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("", None),
        (":80", None),
        ("a:b", None),
        ("a:", None),
        ("a:123456", None),
        ("a b", None),
        ("a..b", None),
        ("-a", None),
        ("a/b", None),
        ("a@b", None),
        ("a,b", None),
        ("[::1", None),
        ("::1", None),
        ("[1.2.3.4]", None),
        ("[::1]x", None),
        ("ü", None),
        ("a\n", None),
        ("a" * 64, None),
        ("a." * 130 + "a", None),
    ],
)
def test_a_host_is_one_or_it_is_none(host, name):
    assert host_name(host) == name
