"""TopicStore: topics and their latest messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg
import msgspec

from quarterdeck.domain.errors import IdempotencyMismatch, Unavailable
from quarterdeck.domain.job import IdempotencyKey
from quarterdeck.domain.topic import KEPT, KEPT_SECONDS, Message, NewMessage
from quarterdeck.store.pool import ACQUIRE_TIMEOUT, fetch
from quarterdeck.store.queries import SQL

MAX_BYTES = 256 * 1024
"""Bytes of a topic's messages in one reading; a message that begins within them is there whole."""
NEWEST = 2**63 - 1
"""After this id there is nothing: asked for it, a topic tells its last id only."""

Place = tuple[str, str]
"""A tenant and a topic's name."""

_answer = msgspec.json.Decoder(dict[str, int])


class Past(msgspec.Struct, frozen=True):
    """The last id of a topic, 0 where nothing was ever published, and messages of it."""

    last: int
    messages: list[Message]


class TopicStore:
    """The statements behind topics. Every method may raise what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def publish_messages(self, messages: Sequence[NewMessage]) -> list[int]:
        """Publishes a group in one commit; returns the ids, in the order of the messages."""
        return [row["id"] for row in await fetch(self._pool, "publish_messages", *_columns(messages))]

    async def publish_once(self, message: NewMessage, key: IdempotencyKey) -> tuple[int, bool]:
        """Publishes a message unless its key was used, in a transaction; returns its id, and whether it was there.

        Raises IdempotencyMismatch, Unavailable.
        """
        place = (key.tenant, key.method, key.path, key.key)
        async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT) as connection, connection.transaction():
            if await connection.fetch(SQL["take_idempotency_key"], *place, key.body_hash, None):
                ((message_id,),) = await connection.fetch(SQL["publish_messages"], *_columns([message]))
                answer = msgspec.json.encode({"message": message_id}).decode()
                await connection.execute(SQL["keep_answer"], *place, None, answer)
                return message_id, False
            found = await connection.fetch(SQL["find_answers"], *([part] for part in place))
        if not found:
            raise Unavailable("the idempotency key has just expired; try again")
        if found[0]["body_hash"] != key.body_hash:
            raise IdempotencyMismatch("the idempotency key was used with another message")
        return _answer.decode(found[0]["answer"])["message"], True

    async def read_messages(self, afters: Mapping[Place, int], limit: int) -> dict[Place, Past]:
        """How it stands with each of these topics, with its next `limit` kept messages after some id, oldest first.

        What takes more than MAX_BYTES is left for another reading.
        """
        tenants, names = [tenant for tenant, _ in afters], [name for _, name in afters]
        bounds = (limit, MAX_BYTES, KEPT, KEPT_SECONDS)
        found: dict[Place, Past] = {}
        for row in await fetch(self._pool, "read_messages", tenants, names, list(afters.values()), *bounds):
            past = found.setdefault((row["tenant"], row["name"]), Past(row["last"], []))
            if row["id"] is not None:
                past.messages.append(_message(row))
        return found

    async def list_messages(self, tenant: str, topic: str, before: int, limit: int) -> list[Message]:
        """Up to `limit` kept messages before some id, newest first; fewer where they are large."""
        bounds = (limit, MAX_BYTES, KEPT, KEPT_SECONDS)
        return [_message(row) for row in await fetch(self._pool, "list_messages", tenant, topic, before, *bounds)]

    async def prune_messages(self, places: Sequence[Place], limit: int) -> int:
        """Forgets up to `limit` messages that are too old, and of each of these topics as many that are too many.

        Returns how many.
        """
        tenants, names = [tenant for tenant, _ in places], [name for _, name in places]
        return len(await fetch(self._pool, "prune_messages", tenants, names, limit, KEPT, KEPT_SECONDS))


def _columns(messages: Sequence[NewMessage]) -> tuple[list[str], list[str], list[str]]:
    return (
        [message.tenant for message in messages],
        [message.topic for message in messages],
        [message.data for message in messages],
    )


def _message(row: asyncpg.Record) -> Message:
    return Message(row["id"], row["at"], msgspec.Raw(row["data"].encode()))
