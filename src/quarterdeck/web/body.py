"""Request bodies: how much of one is kept, how much is read and thrown away, and which media type it has."""

from __future__ import annotations

import asyncio

import quart
from quart.wrappers.request import Body
from werkzeug.http import parse_options_header

from quarterdeck.web.problems import BODY_TOO_LARGE, REQUEST_TIMEOUT, UNSUPPORTED_MEDIA_TYPE, Refusal

LIMIT = 1024 * 1024
"""Bytes of a body that are kept."""
READ_AWAY = 4
"""Times the limit that is read before a body is refused: who is still sending does not see the answer."""
SETTLE_TIMEOUT = 5.0
"""Seconds that an answer waits for the rest of a body that nobody asked for."""

_ACCEPTED = {"Accept": "application/json"}


class BoundedBody(Body):
    """A body that keeps at most its limit in memory, whoever sends how much."""

    def __init__(self, _expected_content_length: int | None, max_content_length: int | None) -> None:
        # Quart's own refusal would come before the body is read, so it hears of no limit.
        super().__init__(None, None)
        self._limit = LIMIT if max_content_length is None else max_content_length
        self._size = 0
        self._settled = asyncio.Event()

    def append(self, data: bytes) -> None:
        """Takes what came; called by Quart."""
        self._size += len(data)
        if self._size <= self._limit:
            super().append(data)
        if self._size > self._limit * READ_AWAY:
            self._settled.set()

    def set_complete(self) -> None:
        """Nothing more comes; called by Quart."""
        super().set_complete()
        self._settled.set()

    @property
    def settled(self) -> bool:
        """Whether all has come, or so much that no more of it is waited for."""
        return self._settled.is_set()

    def give_up(self) -> None:
        """What has not come is waited for no longer."""
        self._settled.set()

    async def settle(self) -> None:
        """Waits until the body is settled."""
        await self._settled.wait()

    async def take(self, limit: int) -> bytes:
        """The whole body. Raises Refusal where it is over `limit` bytes, after it was read and thrown away."""
        await self._settled.wait()
        if self._size > min(limit, self._limit):
            raise Refusal(BODY_TOO_LARGE, f"The limit is {min(limit, self._limit)} bytes")
        return bytes(await self)


class Request(quart.Request):
    """A request with such a body."""

    body_class: type[Body] = BoundedBody
    body: BoundedBody

    async def take_json_text(self, limit: int, *, required: bool = True) -> bytes:
        """The body, if it says that it is JSON; one that is not `required` may be empty and say nothing.

        Raises Refusal: another media type, over `limit` bytes, not there within `body_timeout` seconds.
        """
        if required:
            self._require_json()
        text = await self._take(limit)
        if text and not required:
            self._require_json()
        return text

    async def _take(self, limit: int) -> bytes:
        if self.body.settled:  # as almost always, and a timeout costs more than all the rest here
            return await self.body.take(limit)
        try:
            async with asyncio.timeout(self.body_timeout):
                return await self.body.take(limit)
        except TimeoutError:
            self.body.give_up()
            raise Refusal(REQUEST_TIMEOUT, f"The body took longer than {self.body_timeout} seconds") from None

    async def settle(self) -> None:
        """Reads away what is left of the body, so that a client that is still sending sees the answer."""
        if not self.body.settled:
            try:
                async with asyncio.timeout(SETTLE_TIMEOUT):
                    await self.body.settle()
            except TimeoutError:
                pass

    def _require_json(self) -> None:
        given = self.headers.getlist("Content-Type")
        media_type, options = parse_options_header(given[0] if given else None)
        if len(given) != 1 or media_type.lower() != "application/json":
            raise Refusal(UNSUPPORTED_MEDIA_TYPE, "Send Content-Type: application/json", headers=_ACCEPTED)
        if options.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
            raise Refusal(UNSUPPORTED_MEDIA_TYPE, "JSON is UTF-8, always", headers=_ACCEPTED)
        if self.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            identity = {"Accept-Encoding": "identity"}
            raise Refusal(UNSUPPORTED_MEDIA_TYPE, "Send the body without Content-Encoding", headers=identity)
