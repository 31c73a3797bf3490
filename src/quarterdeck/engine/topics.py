"""Topics: messages that are published to whoever follows a topic, read once for everybody in this process."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Coroutine, Iterable, Iterator
from operator import attrgetter
from typing import Any, Self

import msgspec

from quarterdeck.domain.errors import IdempotencyInFlight
from quarterdeck.domain.job import IdempotencyKey
from quarterdeck.domain.topic import Gap, Message, new_message
from quarterdeck.engine.calls import Calls
from quarterdeck.engine.message_pruner import MessagePruner
from quarterdeck.engine.meter import Meter
from quarterdeck.engine.publisher import Published, Publisher
from quarterdeck.engine.shared import Shared
from quarterdeck.engine.tasks import Signal
from quarterdeck.engine.trouble import Trouble
from quarterdeck.store.topics import NEWEST, Past, Place, TopicStore

POLL = 0.5
"""Seconds between looks for what is published elsewhere: one statement for all topics, none without followers."""
MAX_TOPICS = 200
"""Topics whose messages one statement reads; of more, one statement says first which have any."""
MAX_READ = 100
"""Messages of a topic that one reading takes."""
MAX_KEPT = 256
"""Messages of a topic that are kept for those who follow it; who is further behind reads for itself."""
MAX_KEPT_BYTES = 1024 * 1024
"""Bytes that these may take."""

_id: Callable[[Message], int] = attrgetter("id")


class Topics:
    """Publishes messages, and tells those who follow topics of them, soon after each commit."""

    def __init__(
        self,
        store: TopicStore,
        *,
        calls: Calls,
        meter: Meter,
        announce: Callable[[str, str], None] = lambda _t, _n: None,
    ) -> None:
        """`announce` hears of a tenant's topic after each commit by which something was published to it."""
        self.on_watch: Callable[[bool], None] = lambda _: None
        """Hears whether anybody follows."""
        self._store = store
        self._calls = calls
        self._meter = meter
        self._announce = announce
        self._publisher = Publisher(store, on_published=self._on_published, meter=meter)
        self._pruner = MessagePruner(store, meter)
        self._keys_in_flight: set[IdempotencyKey] = set()
        # Not kept at all: who asks at the same time shares a statement that begins after they have asked.
        self._lasts: Shared[int] = Shared(self._read_lasts, 0.0)
        self._streams: dict[Place, TopicStream] = {}
        self._behind: dict[Place, None] = {}
        self._somebody = Signal()
        self._sooner = Signal()

    def loops(self) -> Iterator[tuple[str, Callable[[], Coroutine[Any, Any, None]]]]:
        """The loops that the engine is to run, by name."""
        yield "topics", self.run
        yield "publisher", self._publisher.run
        yield "message pruner", self._pruner.run

    async def close(self, timeout: float) -> None:
        """Publishes nothing more, and waits up to `timeout` seconds for what is under way."""
        await self._publisher.close(timeout)

    async def publish(self, tenant: str, name: str, data: bytes | msgspec.Raw) -> int:
        """Publishes JSON; returns the message's id, once it is durable.

        Raises InvalidSubmit for an illegal name or more than MAX_MESSAGE_BYTES, Draining, and Unavailable: then it may
        have been published all the same, and who publishes again may do it twice.
        """
        self._calls.require_open()
        return await self._publisher.publish(new_message(tenant, name, data))

    async def publish_once(
        self, tenant: str, name: str, data: bytes | msgspec.Raw, key: IdempotencyKey
    ) -> tuple[int, bool]:
        """The same under a key, so that it can be repeated; returns the id too of what was published before.

        Raises IdempotencyMismatch and IdempotencyInFlight beside what `publish` raises.
        """
        self._calls.require_open()
        self._publisher.require_open()
        message = new_message(tenant, name, data)
        place = msgspec.structs.replace(key, body_hash=b"")
        if place in self._keys_in_flight:
            raise IdempotencyInFlight("the first request with this idempotency key is still being answered")
        self._keys_in_flight.add(place)
        try:
            message_id, replayed = await self._calls.call(self._store.publish_once(message, key))
        finally:
            self._keys_in_flight.discard(place)
        if not replayed:
            self._on_published([(message, message_id)])
        return message_id, replayed

    async def after(self, tenant: str, name: str, after: int, limit: int) -> Past:
        """The topic's last id, and up to `limit` kept messages after some id, oldest first. Raises Unavailable."""
        self._calls.require_open()
        return (await self._calls.call(self._store.read_messages({(tenant, name): after}, limit)))[tenant, name]

    async def before(self, tenant: str, name: str, before: int, limit: int) -> list[Message]:
        """Up to `limit` kept messages before some id, newest first. Raises Unavailable."""
        self._calls.require_open()
        return await self._calls.call(self._store.list_messages(tenant, name, before, limit))

    async def follow(self, tenant: str, name: str, after: int | None, ready: Callable[[], None]) -> Following:
        """Begins to follow a topic after some id, or, without one, with what is published from now on.

        `ready` is called when there may be something to take. Raises Unavailable.
        """
        self._calls.require_open()
        label = f"{tenant} {name}"  # a name has no spaces
        last = (await self._calls.call(self._lasts.get([label])))[label]
        place = (tenant, name)
        stream = self._streams.get(place)
        if stream is None:
            stream = self._streams[place] = TopicStream(self, place, last)
        if after is None:
            following = Following(stream, last, ready)
        else:
            following = Following(stream, min(after, last), ready, gap=after > last)
        stream.followers.add(following)
        self.on_watch(bool(self._streams))
        self._somebody.set()
        self.read_soon(place)  # a hint may have come while nobody followed it
        return following

    def hinted(self, tenant: str, name: str) -> None:
        """Something was published elsewhere."""
        self.read_soon((tenant, name))

    def read_soon(self, place: Place) -> None:
        """Something may have been published."""
        if place in self._streams:
            self._behind[place] = None
            self._sooner.set()

    def forget(self, stream: TopicStream) -> None:
        """Nobody follows the topic any more."""
        if self._streams.get(stream.place) is stream:
            del self._streams[stream.place]
            self._behind.pop(stream.place, None)
            self.on_watch(bool(self._streams))

    @property
    def followed(self) -> int:
        """How many topics somebody follows."""
        return len(self._streams)

    async def run(self) -> None:
        """The loop that reads what is published."""
        trouble = Trouble("topics", self._meter, longest=POLL)
        looked = time.monotonic()
        while True:
            while not self._streams:
                await self._somebody.wait()
            await self._sooner.wait(max(0.0, looked + POLL - time.monotonic()))
            behind, self._behind = self._behind, {}
            if time.monotonic() >= looked + POLL:
                looked, behind = time.monotonic(), dict.fromkeys(self._streams)
            try:
                places = list(behind)
                if len(places) > MAX_TOPICS:
                    places = await self._moved(places)
                for start in range(0, len(places), MAX_TOPICS):
                    await self._read(places[start : start + MAX_TOPICS])
                trouble.over()
            except Exception as error:  # noqa: BLE001 - sorted there
                self._behind.update(behind)
                self._sooner.set()
                await trouble.wait_out(error)

    async def _moved(self, places: list[Place]) -> list[Place]:
        streams = {place: self._streams[place] for place in places if place in self._streams}
        pasts = await self._store.read_messages(dict.fromkeys(streams, NEWEST), 0)
        return [place for place, stream in streams.items() if pasts[place].last != stream.last]

    async def _read(self, places: list[Place]) -> None:
        streams = {place: self._streams[place] for place in places if place in self._streams}
        if streams:
            afters = {place: stream.last for place, stream in streams.items()}
            for place, past in (await self._store.read_messages(afters, MAX_READ)).items():
                streams[place].read(past)

    async def _read_lasts(self, labels: list[str]) -> dict[str, int]:
        places = [(tenant, name) for tenant, _, name in (label.rpartition(" ") for label in labels)]
        found = await self._store.read_messages(dict.fromkeys(places, NEWEST), 0)
        return {label: found[place].last for label, place in zip(labels, places, strict=True)}

    def _on_published(self, published: Published) -> None:
        lasts: dict[Place, int] = {}
        count = 0
        for message, message_id in published:
            lasts[message.tenant, message.topic] = message_id
            count += 1
        for tenant, name in lasts:
            self.read_soon((tenant, name))
            self._announce(tenant, name)
        self._pruner.grew(lasts, count)


class TopicStream:
    """One topic, as far as it was read, the latest messages of which are kept."""

    __slots__ = ("_kept", "_topics", "followers", "last", "place")

    def __init__(self, topics: Topics, place: Place, last: int) -> None:
        self.place = place
        self.last = last
        """Up to which message everything was read."""
        self.followers: set[Following] = set()
        self._topics = topics
        self._kept: list[Message] = []

    def read(self, past: Past) -> None:
        """What a reading brought."""
        if past.last < self.last:  # the database has lost what it had told, as after a failover
            for following in self.followers:
                following.fall_back(past.last)
            self._keep([], past.last)
        elif past.messages:
            whole = past.messages[0].id == self.last + 1
            self._keep([*(self._kept if whole else []), *past.messages], past.messages[-1].id)
        else:
            # What was published in between is not kept any more.
            self._keep(self._kept if past.last == self.last else [], past.last)
        if past.last > self.last:
            self._topics.read_soon(self.place)  # there was more than one reading takes
        for following in tuple(self.followers):
            if following.pending:
                following.ready()

    def _keep(self, messages: list[Message], last: int) -> None:
        self.last = last
        size = 0
        first = len(messages)
        while first > max(0, len(messages) - MAX_KEPT) and size < MAX_KEPT_BYTES:
            first -= 1
            size += len(memoryview(messages[first].data))
        self._kept = messages[first:]

    def after(self, last: int) -> Iterable[Message] | None:
        """The messages after an id; None where they are not kept here any more."""
        first = self._kept[0].id if self._kept else self.last + 1
        return None if last + 1 < first else self._kept[bisect_right(self._kept, last, key=_id) :]

    async def past(self, last: int, most: int) -> Past:
        """Reads the messages after an id once more. Raises Unavailable."""
        return await self._topics.after(*self.place, last, min(most, MAX_READ))

    def leave(self, following: Following) -> None:
        """Somebody has stopped to follow."""
        self.followers.discard(following)
        if not self.followers:
            self._topics.forget(self)


class Following:
    """Somebody's place in a topic. A context manager that ends with it."""

    __slots__ = ("_gap", "last", "ready", "stream")

    def __init__(self, stream: TopicStream, last: int, ready: Callable[[], None], *, gap: bool = False) -> None:
        self.stream = stream
        self.last = last
        """The id of the last message that was taken."""
        self.ready = ready
        self._gap = gap

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops to follow."""
        self.stream.leave(self)

    def fall_back(self, last: int) -> None:
        """The topic's last message is that one, and what was taken after it is not there any more."""
        if last < self.last:
            self.last, self._gap = last, True

    @property
    def pending(self) -> bool:
        """Whether there is something to take."""
        return self._gap or self.last < self.stream.last

    async def take(self, most: int = 100) -> list[Message | Gap]:
        """The next messages, at once where there are some, and none where there are none yet.

        Where the next message is not kept any more, or never was, a Gap comes before what follows. Raises Unavailable.
        """
        if self.last >= self.stream.last:
            messages: Iterable[Message] | None = ()
        else:
            messages = self.stream.after(self.last)
        if messages is None:
            past = await self.stream.past(self.last, most)
            first = past.messages[0].id if past.messages else past.last + 1
            if first > self.last + 1:
                self.last, self._gap = first - 1, True
            messages = past.messages
        taken: list[Message | Gap] = [Gap(self.last)] if self._gap else []
        self._gap = False
        taken += list(messages)[: most - len(taken)]
        if taken:
            self.last = taken[-1].id
        return taken
