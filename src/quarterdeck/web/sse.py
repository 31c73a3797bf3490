"""Event streams (Server-Sent Events): what a WebSocket carries, for whoever only reads."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Annotated, Any, Literal, Protocol

import msgspec
import quart

from quarterdeck.domain.errors import Unavailable
from quarterdeck.domain.events import Event
from quarterdeck.domain.feeds import FeedEvent, FeedFilter
from quarterdeck.domain.feeds import Gap as FeedGap
from quarterdeck.domain.ticket import Ticket
from quarterdeck.domain.topic import Gap as TopicGap
from quarterdeck.domain.topic import is_topic_name
from quarterdeck.engine.service import Engine
from quarterdeck.engine.streams import Gone
from quarterdeck.engine.tasks import Signal
from quarterdeck.web.auth import STRANGER, Principal
from quarterdeck.web.endpoint import Call, Media, endpoint
from quarterdeck.web.frames import event_fields, message_fields
from quarterdeck.web.paging import number_of
from quarterdeck.web.problems import BAD_QUERY, FORBIDDEN, JOB_GONE, NOT_FOUND, UNAUTHENTICATED, Refusal

EVENT_STREAM = Media("text/event-stream")
HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent."""
RETRY = 1000
"""Milliseconds after which a client whose stream has ended is to ask again."""
MOST = 100
PAUSE = 0.5
"""Seconds between tries while the database is out."""
AGAIN = 0.1
"""Seconds after which what has something to take, and gave nothing, is asked again."""

LastEvent = Annotated[int, msgspec.Meta(ge=0)]


class JobEventsQuery(msgspec.Struct, frozen=True):
    """From which event on, where the header `Last-Event-ID` does not say it, and a ticket in place of a key."""

    after: LastEvent | None = None
    ticket: str | None = None


class EventsQuery(msgspec.Struct, frozen=True):
    """What to follow, exactly one; a cursor where `Last-Event-ID` does not say it; and a ticket in place of a key."""

    queue: str | None = None
    kind: str | None = None
    tag: str | None = None
    workflow: uuid.UUID | None = None
    batch: uuid.UUID | None = None
    topic: str | None = None
    all: Literal["1", "true"] | None = None
    cursor: str | None = None
    ticket: str | None = None


_TARGETS = ("queue", "kind", "tag", "workflow", "batch", "topic", "all")


@endpoint(
    "GET",
    "/v1/jobs/{id}/events",
    summary="Follow a job",
    responses={200: EVENT_STREAM, 204: None},
    problems=(NOT_FOUND, JOB_GONE, FORBIDDEN),
)
async def follow_job(call: Call, job_id: uuid.UUID, query: JobEventsQuery) -> quart.Response:
    """200 with the job's events as they come, after `Last-Event-ID` or from the first, until the one that ends it.

    204 where there is nothing after that one: an `EventSource` stops to ask then. The id of an event is its `seq`.
    """
    engine = call.service.engine
    principal, limit = await _who(call, query.ticket)
    _require_allowed(limit, "job", job_id)
    after = _last_event(call, query.after)
    job = await engine.jobs.get(job_id, tenant=principal.tenant)
    if job.terminal and after >= job.seq:
        response = quart.Response(b"", 204)
        del response.headers["Content-Type"]
        return response
    news = Signal()
    return _streamed(call, _job_source(engine, job_id, after, job.seq, news), news)


@endpoint(
    "GET",
    "/v1/events",
    summary="Follow many jobs, or a topic",
    responses={200: EVENT_STREAM},
    problems=(FORBIDDEN,),
)
async def follow_events(call: Call, query: EventsQuery) -> quart.Response:
    """200 with what happens to all jobs of a queue, kind, tag, workflow or batch, or to all, or a topic's messages.

    The id of an event is a cursor: a client that sends it as `Last-Event-ID` misses nothing, or gets an event `gap`.
    """
    engine = call.service.engine
    principal, limit = await _who(call, query.ticket)
    given = [name for name in _TARGETS if getattr(query, name) is not None]
    if len(given) != 1:
        raise Refusal(BAD_QUERY, f"Follow exactly one of {', '.join(_TARGETS)}")
    (target,) = given
    _require_allowed(limit, target, getattr(query, target))
    last = call.request.headers.get("Last-Event-ID") or query.cursor
    news = Signal()
    if query.topic is not None:
        if not is_topic_name(query.topic):
            raise Refusal(BAD_QUERY, "Parameter 'topic': is no name")
        return _streamed(call, await _topic_source(engine, principal.tenant, query.topic, last, news), news)
    values: dict[str, Any] = {target: True if target == "all" else getattr(query, target)}
    return _streamed(call, await _feed_source(engine, principal.tenant, FeedFilter(**values), last, news), news)


ENDPOINTS = (follow_job, follow_events)


Take = Callable[["Source"], Coroutine[Any, Any, Sequence[bytes]]]


class Followed(Protocol):
    """A place in something that is followed."""

    @property
    def pending(self) -> bool:
        """Whether there is something to take."""

    def close(self) -> None:
        """Stops to follow."""


class Source:
    """What a stream is made of: the next pieces, none where there are none yet, and an end."""

    def __init__(self, take: Take, followed: Followed) -> None:
        self._take = take
        self._followed = followed
        self.close = followed.close
        self.over = False

    @property
    def pending(self) -> bool:
        """Whether there is something to take."""
        return self._followed.pending

    async def take(self) -> Sequence[bytes]:
        """The next pieces. Raises Unavailable."""
        return await self._take(self)


def _streamed(call: Call, source: Source, news: Signal) -> quart.Response:
    engine = call.service.engine
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if call.request.method == "HEAD":  # who asks for nothing but the head is not kept waiting for an end
        source.close()
        head = quart.Response(b"", 200, headers, content_type=EVENT_STREAM.type)
        del head.headers["Content-Length"]
        return head
    # A client that has gone by now is never streamed to.
    abandoned = asyncio.get_running_loop().call_later(HEARTBEAT, source.close)
    response = quart.Response(
        _stream(engine, source, news, abandoned),
        200,
        headers,
        content_type=EVENT_STREAM.type,
    )
    response.timeout = None  # it takes as long as it takes
    return response


async def _stream(engine: Engine, source: Source, news: Signal, abandoned: asyncio.TimerHandle) -> AsyncIterator[bytes]:
    """The stream until its end, or until this process stops: then the client asks another one."""
    abandoned.cancel()
    leaving = asyncio.Event()

    def leave() -> None:
        leaving.set()
        news.set()

    try:
        with engine.live.audience(leave):
            yield b"retry: %d\n\n" % RETRY
            while not leaving.is_set():
                try:
                    pieces = await source.take()
                except Unavailable:
                    await asyncio.sleep(PAUSE)
                    continue
                for piece in pieces:
                    yield piece
                if source.over:
                    return
                if pieces:
                    continue
                if source.pending:  # there is much to look through: nobody else says when to go on
                    await asyncio.sleep(AGAIN)
                elif not await news.wait(HEARTBEAT):
                    yield b": still here\n\n"
    finally:
        source.close()


def _job_source(engine: Engine, job_id: uuid.UUID, after: int, seq: int, news: Signal) -> Source:
    following = engine.live.streams.follow(job_id, after, news.set, seq=seq)

    async def take(source: Source) -> Sequence[bytes]:
        try:
            events = await following.take(MOST)
        except Gone:
            source.over = True
            return ()
        source.over = bool(events) and events[-1].ends and not following.pending
        return [_event(event, str(event.seq)) for event in events]

    return Source(take, following)


async def _feed_source(engine: Engine, tenant: str, wanted: FeedFilter, cursor: str | None, news: Signal) -> Source:
    following = await engine.live.feed.follow(wanted, tenant=tenant, cursor=cursor, ready=news.set)

    async def take(_: Source) -> Sequence[bytes]:
        return [_feed_piece(item) for item in await following.take(MOST)]

    return Source(take, following)


async def _topic_source(engine: Engine, tenant: str, topic: str, cursor: str | None, news: Signal) -> Source:
    after = None if cursor is None else _number("Last-Event-ID", cursor)
    following = await engine.live.topics.follow(tenant, topic, after=after, ready=news.set)

    async def take(_: Source) -> Sequence[bytes]:
        return [
            _gap(str(item.id))
            if isinstance(item, TopicGap)
            else _piece(str(item.id), "message", f'{{"type":"message",{message_fields(topic, item)}}}')
            for item in await following.take(MOST)
        ]

    return Source(take, following)


def _feed_piece(item: FeedEvent | FeedGap) -> bytes:
    if isinstance(item, FeedGap):
        return _gap(item.cursor)
    return _event(item.event, item.cursor)


def _gap(cursor: str) -> bytes:
    return _piece(cursor, "gap", f'{{"type":"gap","cursor":"{cursor}"}}')


def _event(event: Event, cursor: str) -> bytes:
    return _piece(cursor, event.event, f'{{"type":"event",{event_fields(event, cursor)}}}')


def _piece(number: str, name: str, data: str) -> bytes:
    return f"id: {number}\nevent: {name}\ndata: {data}\n\n".encode()


async def _who(call: Call, ticket: str | None) -> tuple[Principal, Ticket | None]:
    if ticket is None:
        if call.principal is STRANGER:
            raise Refusal(UNAUTHENTICATED, "Send a key, or a ticket")
        return call.principal, None
    found = await call.service.engine.live.tickets.redeem(ticket)
    if found is None:
        raise Refusal(UNAUTHENTICATED, "The ticket is unknown, used or too old")
    return Principal(found.principal, found.tenant, found.scopes), found


def _require_allowed(limit: Ticket | None, target: str, value: Any) -> None:
    if limit is not None and not limit.allows(target, value):
        raise Refusal(FORBIDDEN, "The ticket does not allow that")


def _last_event(call: Call, after: int | None) -> int:
    given = call.request.headers.get("Last-Event-ID")
    return (after or 0) if not given else _number("Last-Event-ID", given)


def _number(name: str, text: str) -> int:
    number = number_of(text)
    if number is None:
        raise Refusal(BAD_QUERY, f"{name} is not the id of an event")
    return number
