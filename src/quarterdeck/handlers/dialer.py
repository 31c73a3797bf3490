"""Dialer: opens connections to addresses that were checked, and to no others."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable

from quarterdeck.domain.errors import QuarterdeckError, Rejection
from quarterdeck.handlers.addresses import (
    Address,
    Allowed,
    is_metadata_name,
    is_public,
    known_address,
    name_to_look_up,
    read_address,
)
from quarterdeck.handlers.outbound_stream import Stream
from quarterdeck.handlers.resolver import Resolve

CONNECT_SECONDS = 10.0
"""How long finding the host, connecting and the TLS handshake may take together."""
MAX_ADDRESSES = 4
"""Addresses of one host that are tried, one after the other."""
WEB_PORTS = (80, 443)
FIRST_FREE_PORT = 1024


class TargetRefused(Rejection):
    """Calls to this place are not made."""


class CallFailed(QuarterdeckError):
    """No answer, or none that is HTTP: the host was not found, the connection broke."""


class Dialer:
    """Looks a name up once, vets every address that it has, and connects to one of those.

    There is no second look-up, which could say something else.
    """

    def __init__(self, allowed: Allowed, resolve: Resolve, make_tls: Callable[[], ssl.SSLContext]) -> None:
        """`make_tls` is called when https is first asked for: reading all certificates takes a while."""
        self._allowed = allowed
        self._resolve = resolve
        self._make_tls = make_tls
        self._tls: ssl.SSLContext | None = None

    async def connect(self, scheme: str, host: str, port: int) -> Stream:
        """An open connection, with TLS for `https`. Raises TargetRefused, CallFailed."""
        shown = f"{host}:{port}"
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await self._try_each(scheme, host, port)
        except TimeoutError:
            raise CallFailed(f"no connection to {shown} within {CONNECT_SECONDS:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise CallFailed(f"the certificate of {shown} is not to be trusted: {error.verify_message}") from None
        except ssl.SSLError as error:
            raise CallFailed(f"no TLS with {shown}: {error.reason}") from None
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error) or "it was ended too soon"
            raise CallFailed(f"cannot connect to {shown}: {why}") from None

    async def _try_each(self, scheme: str, host: str, port: int) -> Stream:
        addresses = (await self._vetted(host, port))[:MAX_ADDRESSES]
        failure: OSError = TimeoutError()
        for address in addresses:
            try:
                async with asyncio.timeout(CONNECT_SECONDS / len(addresses)):
                    return await self._open(scheme, host, address, port)
            except OSError as error:  # TimeoutError is one
                failure = error
        raise failure

    async def _vetted(self, host: str, port: int) -> list[Address]:
        """The addresses of `host`, each of which may be called. Raises TargetRefused where one may not."""
        addresses = await self._addresses(host, port)
        for address in addresses:
            if self._allowed.permits(host, address):
                continue
            # One that is not public refuses them all, so that the order of a name server's answers means nothing.
            # Which one it is stays unsaid: that would tell about names that only the inside knows.
            if not is_public(address) or is_metadata_name(host):
                raise _not_public(host)
            if port not in WEB_PORTS and port < FIRST_FREE_PORT:
                raise TargetRefused(f"port {port} is not called: only 80, 443, and those from {FIRST_FREE_PORT} on are")
        return addresses

    async def _addresses(self, host: str, port: int) -> list[Address]:
        if (address := known_address(host)) is not None:
            return [address]
        try:
            found = await self._resolve(name_to_look_up(host), port)
        except OSError as error:
            if is_metadata_name(host) and not self._allowed.names(host):
                raise _not_public(host) from None  # in this cloud it has another name, and trying again finds none
            why = f": {error.strerror}" if isinstance(error, socket.gaierror) else ""
            raise CallFailed(f"cannot find the host {host}{why}") from None
        if not found:
            raise CallFailed(f"the host {host} has no address")
        return [read_address(text) for text in found]

    async def _open(self, scheme: str, host: str, address: Address, port: int) -> Stream:
        tls = name = None
        if scheme == "https":
            if self._tls is None:
                self._tls = self._make_tls()
            tls, name = self._tls, host.removesuffix(".")
        # A number in place of a name: nobody looks anything up here.
        reader, writer = await asyncio.open_connection(str(address), port, ssl=tls, server_hostname=name)
        stream = Stream(reader, writer)
        peer = writer.get_extra_info("peername")
        if peer is None or read_address(peer[0]) != address:
            stream.abort()
            raise OSError("somebody else is at the other end")
        return stream


def _not_public(host: str) -> TargetRefused:
    return TargetRefused(f"{host} is not on the public Internet, and not among the allowed private targets")
