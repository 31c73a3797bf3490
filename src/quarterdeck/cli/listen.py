"""The socket that the service listens on, taken before anything else starts."""

import errno
import socket

from quarterdeck.cli import exits
from quarterdeck.cli.exits import CommandError
from quarterdeck.config import parse_bind

_ADVICE = {
    errno.EADDRINUSE: "the port is in use: stop what listens there, or choose another with --bind",
    errno.EACCES: "this user may not listen there; choose a port above 1023 with --bind",
    errno.EADDRNOTAVAIL: "this machine has no such address; choose one that it has with --bind",
}


def listen(bind: str, backlog: int) -> socket.socket:
    """A socket that listens on `host:port`; clients that come before the service has started wait in its queue.

    Raises CommandError where the address cannot be had.
    """
    host, port = parse_bind(bind)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name such as localhost may mean both; what is printed then works everywhere.
        family, *_, address = min(found, key=lambda one: one[0] is not socket.AF_INET)
        opened = socket.create_server(address[:2], family=family, backlog=backlog)
    except socket.gaierror as error:
        raise CommandError(f"cannot listen on {bind}: {error.strerror}; check --bind", exits.WRONG_USAGE) from None
    except OSError as error:
        why = _ADVICE.get(error.errno or 0, error.strerror)
        raise CommandError(f"cannot listen on {bind}: {why}", exits.WRONG_USAGE) from None
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def address_of(opened: socket.socket) -> str:
    """`host:port` of a socket, as it stands in a URL."""
    host, port = opened.getsockname()[:2]
    return f"[{host}]:{port}" if opened.family is socket.AF_INET6 else f"{host}:{port}"
