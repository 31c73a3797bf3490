"""The address that the service takes, or why it cannot."""

import socket

import pytest

from quarterdeck.cli import exits
from quarterdeck.cli.exits import CommandError
from quarterdeck.cli.listen import address_of, listen


@pytest.mark.parametrize(
    ("bind", "host"), [("127.0.0.1:0", "127.0.0.1"), ("localhost:0", "127.0.0.1"), ("[::1]:0", "[::1]")]
)
def test_a_free_port_is_taken_and_told(bind, host):
    with listen(bind, 10) as opened:
        address = address_of(opened)
        name, _, port = address.rpartition(":")
        assert name == host
        assert int(port) > 0
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5):
            pass


def test_a_port_in_use_is_told_with_what_to_do():
    with listen("127.0.0.1:0", 1) as taken:
        bind = address_of(taken)
        with pytest.raises(CommandError, match=r"cannot listen on .*: the port is in use.*--bind") as caught:
            listen(bind, 1)
    assert caught.value.exit_code == exits.WRONG_USAGE


def test_a_port_is_free_again_at_once():
    opened = listen("127.0.0.1:0", 1)
    bind = address_of(opened)
    client = socket.create_connection(opened.getsockname())
    opened.accept()[0].close()  # what stays of a connection that the server closed first would hold the port
    client.close()
    opened.close()
    listen(bind, 1).close()


@pytest.mark.parametrize(
    ("bind", "words"),
    [
        ("192.0.2.1:0", "this machine has no such address"),
        ("no-such-host.invalid:0", "check --bind"),
    ],
)
def test_an_address_that_cannot_be_had_is_wrong_usage(bind, words):
    with pytest.raises(CommandError, match=words) as caught:
        listen(bind, 1)
    assert caught.value.exit_code == exits.WRONG_USAGE
