"""Who may ask: bearer keys where they are required, and otherwise only this machine's own programs and pages."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from quarterdeck.config import Settings, is_loopback, parse_bind
from quarterdeck.domain.job import DEFAULT_TENANT
from quarterdeck.web.problems import FORBIDDEN, MISDIRECTED, UNAUTHENTICATED, Refusal

PRINCIPAL = "quarterdeck.principal"
"""Where a scope has its Principal."""
OPEN_PATHS = frozenset({"/livez", "/readyz"})
"""What needs no key: nothing else."""
ALL_SCOPES = frozenset({"*"})

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="quarterdeck"'}
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>{_LABEL}(?:\.{_LABEL})*\.?))(?::[0-9]{{1,5}})?")
_LONGEST_HOST = 260
_KEPT = 64  # most requests name the same few hosts


class Principal(msgspec.Struct, frozen=True):
    """Who asks: the name of a key, whose jobs it sees, and what it may do."""

    name: str
    tenant: str = DEFAULT_TENANT
    scopes: frozenset[str] = ALL_SCOPES


ANYBODY = Principal("anybody")
"""Who asks where no key is required."""
_PROBE = Principal("probe", scopes=frozenset())
STRANGER = Principal("stranger", scopes=frozenset())
"""Who asks where that is said later: in the first frame of a socket, or by a ticket in the query."""
SAID_LATER = re.compile(r"/v1/(live|events|jobs/[^/]+/events)")
"""The paths where it may be. Whatever answers there finds out who asks, first of all."""


class Access(Protocol):
    """Decides about a request before it is routed, by nothing but its ASGI scope."""

    def admit(self, scope: Mapping[str, Any]) -> Principal:
        """Who asks. Raises Refusal."""

    def recognise(self, token: str) -> Principal | None:
        """Whose key it is; None where it is nobody's."""


def access_of(settings: Settings) -> Access:
    """The access that the settings ask for. Raises ConfigError for a bind that others can reach, without keys."""
    if settings.auth_required():
        return KeyAccess(settings.parsed_keys())
    return LocalAccess(parse_bind(settings.bind)[0], anywhere=settings.auth == "off")


class KeyAccess:
    """Asks every request for a key, whatever its method and path, the open paths aside."""

    def __init__(self, names: Mapping[str, str]) -> None:
        """`names` has the name of each key by its secret."""
        self._principals = [(_digest(secret.encode()), Principal(name)) for secret, name in names.items()]

    def admit(self, scope: Mapping[str, Any]) -> Principal:
        """Who asks. Raises Refusal, the same for whatever is wrong with a key."""
        principal = self._find(scope)
        if principal is None and scope["type"] == "http" and scope["path"] in OPEN_PATHS:
            principal = _PROBE
        if principal is None and _may_say_later(scope):
            principal = STRANGER
        if principal is None:
            raise Refusal(UNAUTHENTICATED, "Send Authorization: Bearer <key>", headers=_CHALLENGE)
        hosts = header(scope, b"host")
        if len(hosts) > 1 or (hosts and hosts[0] and host_name(hosts[0]) is None):
            raise _misdirected()
        if scope["type"] == "websocket":
            _require_same_origin(scope, hosts[0] if hosts else "")
        return principal

    def _find(self, scope: Mapping[str, Any]) -> Principal | None:
        given = header(scope, b"authorization")
        scheme, _, secret = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        # Headers come as Latin-1, whatever they were written in; keys are UTF-8.
        found = self.recognise(secret.strip().encode("latin-1").decode("utf-8", "surrogateescape"))
        return found if scheme.lower() == "bearer" else None

    def recognise(self, token: str) -> Principal | None:
        """Whose key it is."""
        digest = _digest(token.encode("utf-8", "surrogateescape"))
        found = None
        # All keys are looked at, so that the time says nothing about any of them.
        for known, principal in self._principals:
            if hmac.compare_digest(known, digest):
                found = principal
        return found


class LocalAccess:
    """Asks for no key. Takes requests for this machine's own names only, and no writes from other sites' pages."""

    def __init__(self, bind_host: str, *, anywhere: bool) -> None:
        """`anywhere`: serving other machines without keys was asked for in so many words."""
        self._bind_host = bind_host.lower()
        self._anywhere = anywhere

    def admit(self, scope: Mapping[str, Any]) -> Principal:
        """Who asks. Raises Refusal."""
        hosts = header(scope, b"host")
        name = host_name(hosts[0]) if len(hosts) == 1 else None
        if name is None or not self._serves(name) or not self._meant(scope.get("server")):
            raise _misdirected()
        if scope["type"] == "websocket" or scope["method"] not in _READING:
            _require_same_origin(scope, hosts[0])
        return ANYBODY

    def recognise(self, token: str) -> Principal | None:  # noqa: ARG002 - any will do
        """Anybody."""
        return ANYBODY

    def _serves(self, name: str) -> bool:
        if is_loopback(name) or name == self._bind_host:
            return True
        # Bound to all addresses, any of them is the bind; no other site's name can be made to point at a number.
        return self._anywhere and self._bind_host in ("0.0.0.0", "::") and _is_address(name)  # noqa: S104 - compared

    def _meant(self, server: tuple[str, int] | None) -> bool:
        """Whether the connection came in where the settings say; a server of another kind may have bound more."""
        return self._anywhere or server is None or not _is_address(server[0]) or is_loopback(server[0])


def _may_say_later(scope: Mapping[str, Any]) -> bool:
    if header(scope, b"authorization") or not SAID_LATER.fullmatch(scope["path"]):
        return False
    if scope["type"] == "websocket":
        return True
    # An event stream of a browser has no header of its own; without a ticket there is nothing to say.
    return scope["method"] in _READING and b"ticket=" in scope.get("query_string", b"")


def header(scope: Mapping[str, Any], name: bytes) -> list[str]:
    """All values of a header; `name` is in lower case."""
    return [value.decode("latin-1").strip() for key, value in scope["headers"] if key.lower() == name]


@lru_cache(_KEPT)
def host_name(host: str) -> str | None:
    """The host of a `Host` header in lower case, without its port; None where it is none."""
    found = _HOST.fullmatch(host) if len(host) <= _LONGEST_HOST else None
    if found is None:
        return None
    if found["v6"] is None:
        return found["name"].lower()
    try:
        return str(ipaddress.IPv6Address(found["v6"]))
    except ValueError:
        return None


def _require_same_origin(scope: Mapping[str, Any], host: str) -> None:
    """Keeps pages of other sites from writing: browsers say where a request comes from, other programs do not."""
    origins = header(scope, b"origin")
    sites = header(scope, b"sec-fetch-site")
    foreign = any(site.lower() not in ("same-origin", "none") for site in sites)
    if foreign or len(origins) > 1 or any(_authority(origin) != host.lower() for origin in origins):
        raise Refusal(FORBIDDEN, "Pages of other origins may not write here")


def _authority(origin: str) -> str | None:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") else None


@lru_cache(_KEPT)
def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _misdirected() -> Refusal:
    return Refusal(MISDIRECTED, "The Host header names another host, or no host, or more than one")


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()
