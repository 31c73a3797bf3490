"""Outbound: HTTP calls to wherever a caller says, and to nowhere else. The one place that knows httpx.

What makes a call safe here is what is *not* here: no proxies or passwords from the environment, no cookie jar, no
redirects, no second look-up of the name between the check of its addresses and the connection.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Sequence

import httpcore
import httpx
import msgspec

from quarterdeck.handlers.addresses import Allowed
from quarterdeck.handlers.dialer import CallFailed, Dialer
from quarterdeck.handlers.outbound_stream import Stream
from quarterdeck.handlers.resolver import Resolve, Resolver

MAX_BODY = 64 * 1024
"""Bytes of an answer's body that are read and kept."""
MAX_URL = 8192
MAX_PORT = 65_535
MAX_HOST = 255
MAX_LABEL = 63
"""Bytes of a host's name, and between its dots (RFC 1035, section 2.3.4)."""
KEEP_SECONDS = 3.0
"""How long a connection waits for another call to the same place: less than servers do, most of them 5 seconds."""
MAX_KEPT = 32
"""Connections that wait."""

Url = httpx.URL


class Answer(msgspec.Struct, frozen=True):
    """An answer: names of headers in lower case, and at most MAX_BODY bytes of the body as they came."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    truncated: bool

    def header(self, name: str) -> str | None:
        """The first header of that name."""
        return next((value for each, value in self.headers if each == name), None)


class _Line(msgspec.Struct, eq=False):
    """A connection to one place."""

    place: tuple[str, str, int]
    stream: Stream
    connection: httpcore.AsyncHTTP11Connection
    timer: asyncio.TimerHandle | None = None

    @property
    def reusable(self) -> bool:
        """Whether the last answer is over, and nothing came behind it that the next caller would take for its own."""
        # httpcore does not say what is left over; h11, which reads for it, does.
        surplus = self.connection._h11_state.trailing_data[0]  # noqa: SLF001
        return self.connection.is_idle() and self.stream.fresh and not surplus


def read_url(text: str) -> Url:
    """The URL, checked. Raises ValueError in words for what cannot be called; addresses are not looked at."""
    try:
        url = Url(text)
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise ValueError(f"is no URL: {error}") from None
    if url.scheme not in ("http", "https"):
        raise ValueError("begins with neither http:// nor https://")
    if not url.raw_host:
        raise ValueError("names no host")
    if url.userinfo:
        raise ValueError("holds a user name or a password: send them in an Authorization header")
    labels = url.raw_host.removesuffix(b".").split(b".")
    lengths_fit = len(url.raw_host) <= MAX_HOST and all(0 < len(label) <= MAX_LABEL for label in labels)
    if not lengths_fit or not 0 < port_of(url) <= MAX_PORT or b"%" in url.raw_host:
        raise ValueError("names a host or a port that there cannot be")
    return url


def joined(url: Url, location: str) -> Url:
    """Where `location`, found at `url`, leads. Raises ValueError as read_url does."""
    try:
        return read_url(str(url.join(location)))
    except httpx.InvalidURL as error:
        raise ValueError(f"is no URL: {error}") from None


def port_of(url: Url) -> int:
    """The port that a URL means."""
    if url.port is not None:
        return url.port
    return 443 if url.scheme == "https" else 80


class Outbound:
    """Makes calls. Nothing is opened before the first one; `close` ends what is open.

    There are no more than `max_connections` at a time, counted by a semaphore around each call: however and whenever
    one is cancelled, its connection is aborted there and then, and its turn goes to the next.
    """

    def __init__(
        self,
        allow: Iterable[str] = (),
        *,
        max_connections: int = 100,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`allow` names hosts and networks that may be called although private. `tls` says whom to trust."""
        self._dialer = Dialer(Allowed(allow), resolve or Resolver(), lambda: tls or _usual_trust())
        self._turns = asyncio.Semaphore(max_connections)
        self._kept: list[_Line] = []
        self._closed = False

    async def call(self, method: str, url: Url, headers: Sequence[tuple[str, str]], body: bytes = b"") -> Answer:
        """One request and its answer. `headers` come after those that the message itself needs, and name none of them.

        Raises TargetRefused, CallFailed. How long it may take is up to the caller; a cancel ends it at once.
        """
        request = _request(method, url, headers, body)
        async with self._turns:
            line = await self._line(url)
            try:
                return await _exchange(line, request)
            except httpcore.ProtocolError as error:
                if line.stream.ended:
                    raise CallFailed(f"the connection to {_shown(url)} broke: it was ended too soon") from None
                raise CallFailed(f"what {_shown(url)} answers is no HTTP: {error}") from None
            except httpcore.NetworkError as error:
                raise CallFailed(f"the connection to {_shown(url)} broke: {error}") from None
            finally:
                self._put_back(line)

    async def close(self) -> None:
        """Ends the connections that wait; a call that is under way goes on, and keeps none."""
        self._closed = True
        for line in list(self._kept):
            self._drop(line)
        await asyncio.sleep(0)  # an aborted connection is gone one step of the loop later

    async def _line(self, url: Url) -> _Line:
        place = (url.scheme, url.raw_host.decode("ascii"), port_of(url))
        for line in reversed(self._kept):
            if line.place == place:
                self._take(line)
                if line.reusable:
                    return line
                line.stream.abort()
        stream = await self._dialer.connect(*place)
        origin = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=b"/").origin
        return _Line(place, stream, httpcore.AsyncHTTP11Connection(origin=origin, stream=stream))

    def _put_back(self, line: _Line) -> None:
        if self._closed or not line.reusable:
            line.stream.abort()
            return
        if len(self._kept) >= MAX_KEPT:
            self._drop(self._kept[0])
        line.timer = asyncio.get_running_loop().call_later(KEEP_SECONDS, self._drop, line)
        self._kept.append(line)

    def _take(self, line: _Line) -> None:
        self._kept.remove(line)
        if line.timer is not None:
            line.timer.cancel()

    def _drop(self, line: _Line) -> None:
        self._take(line)
        line.stream.abort()


def _usual_trust() -> ssl.SSLContext:
    """The authorities that certifi knows, whatever the environment says."""
    tls = httpx.create_ssl_context(trust_env=False)
    tls.set_alpn_protocols(["http/1.1"])
    return tls


def _request(method: str, url: Url, headers: Sequence[tuple[str, str]], body: bytes) -> httpcore.Request:
    head = [(b"Host", url.netloc)]
    head += [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
    if body or method in ("POST", "PUT", "PATCH"):
        head.append((b"Content-Length", str(len(body)).encode()))
    address = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    return httpcore.Request(method, address, headers=head, content=body)


async def _exchange(line: _Line, request: httpcore.Request) -> Answer:
    response = await line.connection.handle_async_request(request)
    body = bytearray()
    try:
        async for chunk in response.aiter_stream():
            body += chunk
            if len(body) > MAX_BODY:
                line.stream.stop_reading()
    except httpcore.ReadError:
        if len(body) <= MAX_BODY:
            raise
    finally:
        await response.aclose()
    headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers]
    return Answer(response.status, headers, bytes(body[:MAX_BODY]), len(body) > MAX_BODY)


def _shown(url: Url) -> str:
    return f"{url.raw_host.decode()}:{port_of(url)}"
