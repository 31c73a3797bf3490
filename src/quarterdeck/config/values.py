"""The grammar of single values: queues, addresses, keys, URLs. Each function raises ValueError for what it refuses."""

import ipaddress
import re
from collections.abc import Iterator
from functools import lru_cache

import msgspec

from quarterdeck.domain.submission import NAME

MASK = "***"
"""Stands where a secret was."""
SHORT_SECRET = 16
"""The least number of characters of an API key's secret."""
MAX_LIMIT = 10_000
"""The most jobs that one process runs at the same time."""
MAX_PORT = 65_535
BUS_SCHEMES = ("redis", "rediss", "valkey", "valkeys")
"""How the URL of a bus may begin."""

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")
_PRINTABLE = re.compile(r"[!-~]+")
_PASSWORD_FIELD = re.compile(r"(password=)[^&#]*", re.IGNORECASE)


class QueueRule(msgspec.Struct, frozen=True):
    """One queue, or with a last `*` all queues of a prefix, and how many of its jobs a process runs at once."""

    pattern: str
    limit: int | None = None

    def matches(self, queue: str) -> bool:
        """Return whether the rule is about `queue`."""
        return queue.startswith(self.pattern[:-1]) if self.pattern.endswith("*") else queue == self.pattern


def parse_queues(text: str | None) -> tuple[QueueRule, ...]:
    """Read `a,b=5,tenant-*`; None and what it gives, an empty tuple, mean every queue.

    Raises:
        ValueError: a name no queue can have, a `*` not at the end, a limit outside 1..10000, a name given twice.
    """
    rules: dict[str, QueueRule] = {}
    for item in _items(text):
        pattern, equals, limit = (part.strip() for part in item.partition("="))
        if not NAME.fullmatch(pattern.removesuffix("*") if len(pattern) > 1 else pattern.replace("*", "_")):
            raise ValueError(
                f"{pattern!r} is no name of a queue (letters, digits and _ . : -, with a `*` only at the end)"
            )
        if equals and not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MAX_LIMIT):
            raise ValueError(f"{limit!r} is no limit for queue {pattern!r}: expected 1 to {MAX_LIMIT}")
        if pattern in rules:
            raise ValueError(f"queue {pattern!r} is given twice")
        rules[pattern] = QueueRule(pattern, int(limit) if equals else None)
    return tuple(rules.values())


def parse_bind(text: str, lowest_port: int = 0) -> tuple[str, int]:
    """Read `host:port`, an IPv6 host in brackets; they are not part of the host that is returned.

    Raises:
        ValueError: no host, no port, a port beyond 65535, or what looks like an IP address and is none.
    """
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and lowest_port <= int(port[:9]) <= MAX_PORT):
        raise ValueError(f"expected host:port with a port from {lowest_port} to {MAX_PORT}, such as 127.0.0.1:8000")
    if host.startswith("[") and host.endswith("]"):
        return str(ipaddress.IPv6Address(host[1:-1])), int(port)
    if not _HOST.fullmatch(host):
        raise ValueError("expected host:port, such as 127.0.0.1:8000 or [::1]:8000")
    if host.replace(".", "").isdigit():
        ipaddress.IPv4Address(host)
    return host, int(port)


def parse_servers(text: str | None) -> tuple[tuple[str, int], ...]:
    """Read `host:port,…`.

    Raises:
        ValueError: an item that is not `host:port`.
    """
    return tuple(parse_bind(item, lowest_port=1) for item in _items(text))


def parse_keys(text: str | None) -> dict[str, str]:
    """Read `name:secret,…` and return the names by their secrets.

    Raises:
        ValueError: with the position of the bad item only, since any part of it may be the secret.
    """
    keys: dict[str, str] = {}
    for position, item in enumerate(_items(text), 1):
        name, colon, secret = item.partition(":")
        if not colon or not NAME.fullmatch(name):
            raise ValueError(f"item {position} is not name:secret")
        if not _PRINTABLE.fullmatch(secret):
            raise ValueError(f"the secret of item {position} needs printable characters, and no spaces")
        if name in keys.values() or secret in keys:
            raise ValueError(f"item {position} repeats a name or a secret")
        keys[secret] = name
    return keys


def parse_targets(text: str | None) -> tuple[str, ...]:
    """Read host names, addresses and networks (`10.0.0.0/8`), comma-separated.

    Raises:
        ValueError: an item that is none of them, a network with bits set behind its mask.
    """
    items = tuple(_items(text))
    for item in items:
        if not _HOST.fullmatch(item) or item.replace(".", "").isdigit():
            ipaddress.ip_network(item)
    return items


@lru_cache(64)  # asked at every request, for the same few names
def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach `host`, an address or a name; names are not looked up."""
    host = host.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower().removesuffix(".") == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def mask_password(url: str) -> str:
    """Return a database URL, which may be malformed, without its password."""
    # The last "@" ends the user's part and the first ":" its name: a password may hold both, and "/", unescaped.
    head, at, tail = url.rpartition("@")
    scheme, slashes, user = head.partition("://")
    name, colon, _ = user.partition(":")
    shown = f"{scheme}{slashes}{name}{colon and colon + MASK}{at}{tail}" if slashes else f"{at and MASK}{at}{tail}"
    return _PASSWORD_FIELD.sub(rf"\1{MASK}", shown)


def _items(text: str | None) -> Iterator[str]:
    if text is not None:
        for item in text.split(","):
            if not item.strip():
                raise ValueError("an item is empty")
            yield item.strip()


def check_database_url(url: str) -> None:
    """Refuse, by a ValueError, what is neither `embedded` nor a PostgreSQL URL."""
    if url != "embedded" and not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("expected `embedded` or a URL that begins with postgresql:// or postgres://")


def check_app(app: str) -> None:
    """Refuse, by a ValueError, what does not name an attribute of a module."""
    module, _, attribute = app.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        raise ValueError("expected module:attribute, such as myapp.jobs:deck")


def check_bus(bus: str) -> None:
    """Refuse, by a ValueError, what is no `postgres`, no `off` and no URL of a Redis or Valkey server."""
    if bus in ("postgres", "off"):
        return
    scheme, slashes, rest = bus.partition("://")
    place = rest.rpartition("@")[2]
    host, _, tail = place.partition("/")
    database = tail.partition("?")[0]
    if not slashes or scheme not in BUS_SCHEMES:
        raise ValueError("expected `postgres`, `off` or a URL that begins with redis://, rediss:// or valkey://")
    if database and not (database.isascii() and database.isdigit()):
        raise ValueError("expected the number of a database after the host of the URL, such as redis://host:6379/0")
    try:
        parse_bind(host if host.rpartition("]")[2].count(":") else f"{host}:1", lowest_port=1)
    except ValueError:
        raise ValueError("expected a host, and perhaps a port, in the URL, such as redis://host:6379/0") from None
