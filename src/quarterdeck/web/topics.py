"""Topics over REST: publish a message, and look at the latest ones."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
import quart

from quarterdeck.clock import rfc3339
from quarterdeck.domain import jsonvalue
from quarterdeck.domain.listing import DEFAULT_LIMIT
from quarterdeck.domain.topic import MAX_MESSAGE_BYTES, Message, is_topic_name
from quarterdeck.store.topics import NEWEST
from quarterdeck.web.endpoint import Call, endpoint, json_response
from quarterdeck.web.idempotency import idempotency_key
from quarterdeck.web.job_list import Limit
from quarterdeck.web.paging import cursor_of, place_of
from quarterdeck.web.problems import (
    BAD_QUERY,
    BODY_TOO_LARGE,
    IDEMPOTENCY_IN_FLIGHT,
    IDEMPOTENCY_MISMATCH,
    INVALID,
    MALFORMED_JSON,
    NOT_FOUND,
    REQUEST_TIMEOUT,
    UNSUPPORTED_MEDIA_TYPE,
    Refusal,
)

_AFTER, _BEFORE = "after", "before"
_DIGITS = re.compile(r"[0-9]{1,19}")


class Published(msgspec.Struct, frozen=True):
    """A message as it was published."""

    id: int


class MessageBody(msgspec.Struct, frozen=True):
    """A message."""

    id: int
    at: str
    data: Any


class MessagePage(msgspec.Struct, frozen=True):
    """A page of messages; `next` is the cursor of the next page, null on the last one."""

    items: list[MessageBody]
    next: str | None


class MessagesQuery(msgspec.Struct, frozen=True):
    """Which messages to list."""

    after: Annotated[int, msgspec.Meta(ge=0, le=NEWEST)] | None = None
    limit: Limit = DEFAULT_LIMIT
    cursor: str | None = None


@endpoint(
    "POST",
    "/v1/topics/{name}/messages",
    summary="Publish a message",
    responses={202: Published},
    problems=(
        NOT_FOUND,
        MALFORMED_JSON,
        REQUEST_TIMEOUT,
        BODY_TOO_LARGE,
        UNSUPPORTED_MEDIA_TYPE,
        INVALID,
        IDEMPOTENCY_IN_FLIGHT,
        IDEMPOTENCY_MISMATCH,
    ),
    body_limit=MAX_MESSAGE_BYTES,
)
async def publish_message(call: Call, name: str, body: Any) -> quart.Response:
    """Any JSON value is a message, and goes to whoever follows the topic. 202 once it is stored.

    After a 503 it may have been published or not: with an `Idempotency-Key` it can be sent again without being
    published twice.
    """
    topics, tenant = call.service.engine.live.topics, call.principal.tenant
    _require_legal(name)
    if flaws := jsonvalue.check(body):  # as a body it may be a level deeper than a value
        raise Refusal(INVALID, "The message cannot be stored", errors=flaws)
    key = idempotency_key(call, body)
    message = msgspec.json.encode(body)
    if key is None:
        return json_response(202, Published(await topics.publish(tenant, name, message)))
    message_id, replayed = await topics.publish_once(tenant, name, message, key)
    return json_response(202, Published(message_id), {"Idempotent-Replayed": "true"} if replayed else None)


@endpoint(
    "GET",
    "/v1/topics/{name}/messages",
    summary="List a topic's messages",
    responses={200: MessagePage},
    problems=(NOT_FOUND,),
)
async def list_messages(call: Call, name: str, query: MessagesQuery) -> quart.Response:
    """The messages of the last hour, at most the latest 1000, newest first.

    With `after` those after a message, oldest first: who asks again with the id of the last one misses nothing while
    it is kept. Ids grow by one, so that a first id greater than `after` + 1 tells of messages that are not kept any
    more. A topic that nothing was published to has no messages.
    """
    topics, tenant = call.service.engine.live.topics, call.principal.tenant
    _require_legal(name)
    if query.after is None:
        before = NEWEST if query.cursor is None else _id_of(query.cursor, _BEFORE)
        messages = await topics.before(tenant, name, before, query.limit)
        following = cursor_of(_BEFORE, str(messages[-1].id)) if messages and messages[-1].id > 1 else None
    else:
        after = query.after if query.cursor is None else _id_of(query.cursor, _AFTER)
        past = await topics.after(tenant, name, after, query.limit)
        messages = past.messages
        following = cursor_of(_AFTER, str(messages[-1].id)) if messages and messages[-1].id < past.last else None
    page = MessagePage([_body(message) for message in messages], following)
    return json_response(200, page, {"Cache-Control": "no-store"})


ENDPOINTS = (publish_message, list_messages)


def _require_legal(name: str) -> None:
    if not is_topic_name(name):
        raise Refusal(NOT_FOUND, "No topic can have that name")


def _id_of(cursor: str, direction: str) -> int:
    way, place = place_of(cursor, 2)
    if way != direction or not _DIGITS.fullmatch(place) or int(place) > NEWEST:
        raise Refusal(BAD_QUERY, "Parameter 'cursor': it is not one that this list has given")
    return int(place)


def _body(message: Message) -> MessageBody:
    return MessageBody(message.id, rfc3339(message.at), message.data)
