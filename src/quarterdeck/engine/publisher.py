"""Publisher: publishes what comes in, in groups, one commit for many callers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

import msgspec

from quarterdeck.domain.errors import Draining, FieldError, InvalidSubmit, Unavailable
from quarterdeck.domain.topic import NewMessage
from quarterdeck.engine.calls import CALL_TIMEOUT
from quarterdeck.engine.meter import Meter
from quarterdeck.store import pool
from quarterdeck.store.topics import TopicStore
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

MAX_GROUP = 500
MAX_GROUP_CHARACTERS = 1024 * 1024
"""Characters of a group's messages from which on it takes no more."""
INTAKE = 10_000
INTAKE_CHARACTERS = 32 * 1024 * 1024
"""Characters of the messages that wait to be published from which on no more is taken."""

Published = Iterable[tuple[NewMessage, int]]
"""Messages and the ids that they got."""


class _Request(msgspec.Struct, frozen=True, eq=False):
    message: NewMessage
    answer: asyncio.Future[int]


class Publisher:
    """Puts messages on its intake queue (`asyncio.Queue`) and publishes what has gathered there.

    A group closes as soon as the previous commit returns. A group whose reply is lost is not repeated, since nothing
    tells whether it was published: its callers are told Unavailable. What the database has certainly undone is.
    """

    def __init__(self, store: TopicStore, *, on_published: Callable[[Published], None], meter: Meter) -> None:
        self._store = store
        self._on_published = on_published
        self._meter = meter
        self._intake: asyncio.Queue[_Request] = asyncio.Queue(INTAKE)
        self._waiting = 0
        self._closed = False

    def require_open(self) -> None:
        """Raises Draining after `close`."""
        if self._closed:
            raise Draining("this process is stopping")

    async def publish(self, message: NewMessage) -> int:
        """The id of the message once it is published. Raises Draining, Unavailable, InvalidSubmit."""
        self.require_open()
        if self._intake.full() or self._waiting >= INTAKE_CHARACTERS:
            raise Unavailable("too many messages are waiting to be published")
        request = _Request(message, asyncio.get_running_loop().create_future())
        self._intake.put_nowait(request)
        self._waiting += len(message.data)
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                return await request.answer
        except TimeoutError:
            raise Unavailable("the database did not publish the message in time") from None

    async def close(self, timeout: float) -> None:
        """Takes nothing more, and waits up to `timeout` seconds for what was taken."""
        self._closed = True
        try:
            async with asyncio.timeout(timeout):
                await self._intake.join()
        except TimeoutError:
            log.warning("publisher.not_drained", waiting=self._intake.qsize())

    async def run(self) -> None:
        """The loop."""
        while True:
            group = [await self._intake.get()]
            characters = len(group[0].message.data)
            while len(group) < MAX_GROUP and characters < MAX_GROUP_CHARACTERS and not self._intake.empty():
                group.append(self._intake.get_nowait())
                characters += len(group[-1].message.data)
            self._waiting -= characters
            try:
                await self._publish(group)
            finally:
                for _ in group:
                    self._intake.task_done()

    async def _publish(self, group: list[_Request]) -> None:
        # Who has stopped waiting is not served.
        while group := [request for request in group if not request.answer.done()]:
            try:
                began = time.monotonic()
                ids = await self._store.publish_messages([request.message for request in group])
            except Exception as error:  # noqa: BLE001 - nobody but the callers is to hear of it
                self._meter.database_failed(pool.error_class(error))
                if pool.is_conflict(error):
                    continue
                if pool.is_passing(error):
                    log.warning("publisher.failed", error=str(error) or type(error).__name__)
                    for request in group:
                        _refuse(request, Unavailable("the database is out; the message may be published or not"))
                elif len(group) > 1:
                    middle = len(group) // 2
                    await self._publish(group[:middle])
                    group = group[middle:]
                else:
                    _blame(group[0], error)
            else:
                self._meter.statement("publish_messages", time.monotonic() - began, len(group))
                self._on_published(zip((request.message for request in group), ids, strict=True))
                for request, message_id in zip(group, ids, strict=True):
                    if not request.answer.done():
                        request.answer.set_result(message_id)


def _refuse(request: _Request, error: Exception) -> None:
    if not request.answer.done():
        request.answer.set_exception(error)


def _blame(request: _Request, error: Exception) -> None:
    log.error("message.refused", topic=request.message.topic, exc_info=error)
    if pool.is_data_error(error):
        error = InvalidSubmit([FieldError("/data", "the database cannot store it")])
    _refuse(request, error)
