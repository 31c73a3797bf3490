"""Announcer: tells other processes what there is to look at, and tells this one what they say."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any

from quarterdeck.engine.bus import Bus
from quarterdeck.engine.hints import KINDS, Hints, Kind, Message, from_text, to_text
from quarterdeck.engine.tasks import Backoff, Signal
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

RATE, BURST = 20.0, 20
"""Messages a second, and how many may go at once."""
MERGE = 0.001
"""Seconds after a message in which more hints gather for the next."""
HELLO_EVERY = 30.0
"""Seconds between two hellos, a tenth more or less."""
ANSWER_WITHIN = 0.3
"""Seconds in which a newcomer is answered."""
NEWCOMER = 2.0
"""Seconds after connecting in which others may still answer: until then, hints wait for somebody who wants them."""
FORGET_AFTER = 90.0
"""Seconds of silence after which a process counts as gone."""
ECHO_WITHIN = 5.0
"""Seconds after which a link that brings no own message back counts as deaf: a pool of connections is in between."""
MOST_PEERS = 4096
"""Processes that are remembered."""
SEND_TIMEOUT = 5.0
"""Seconds that sending may take."""
STEADY = 10.0
"""Seconds that a link must have lasted for the next one to be tried at once."""

_NOBODY: AbstractSet[Kind] = frozenset()


class Announcer:
    """Sends hints after commits, and passes on those of others. What is lost is found by the polls.

    What callers use is cheap and never raises; nothing that happens to the bus reaches them. Processes say hello, so
    that nothing is sent that nobody wants: when they connect, every 30 s, and when they want something more.
    """

    def __init__(
        self,
        bus: Bus | None,
        *,
        on_jobs: Callable[[Iterable[uuid.UUID] | None], None],
        on_work: Callable[[Iterable[str]], None],
        on_cancel: Callable[[uuid.UUID], None],
        on_topic: Callable[[str, str], None],
        on_feed: Callable[[], None],
    ) -> None:
        """Without a bus nothing is told. `on_jobs` gets None where some have changed and nobody knows which."""
        self._bus = bus
        self._on_jobs = on_jobs
        self._on_work = on_work
        self._on_cancel = on_cancel
        self._on_topic = on_topic
        self._on_feed = on_feed
        self._process = secrets.token_hex(4)
        self._hints = Hints(bus.limit if bus else 0)
        self._peers: dict[str, _Peer] = {}
        self._wants: set[Kind] = set(KINDS - {"jobs"})
        self._said: AbstractSet[Kind] = _NOBODY
        self._wanted: AbstractSet[Kind] = _NOBODY  # by others, for all that is known
        self._taken: AbstractSet[Kind] = KINDS if bus else _NOBODY  # from callers
        self._untold = False
        self._linked = asyncio.Event()
        self._somebody = Signal()
        self._bucket = _Bucket(RATE, BURST)
        self._hello_at = 0.0
        self._new = True
        self._new_until = float("inf")
        self._echo_by: float | None = None  # when an own message should have come back; None: none was sent yet

    # What callers tell

    def jobs(self, ids: Iterable[uuid.UUID]) -> None:
        """These jobs have changed, after the commit."""
        if "jobs" in self._taken:
            self._hints.add_jobs(ids)
            self._somebody.set()
        else:
            self._untold = True

    def work(self, queues: Iterable[str]) -> None:
        """There are available jobs in these queues."""
        if "work" in self._taken:
            self._hints.add_work(queues)
            self._somebody.set()

    def cancel(self, job_id: uuid.UUID) -> None:
        """A running job was asked to cancel."""
        if "cancel" in self._taken:
            self._hints.add_cancel((job_id,))
            self._somebody.set()

    def topic(self, tenant: str, name: str) -> None:
        """A message was published, after the commit."""
        if "topics" in self._taken:
            self._hints.add_topics(((tenant, name),))
            self._somebody.set()

    def feed(self) -> None:
        """A row was added to the feed log, or somebody began to follow a feed."""
        if "feed" in self._taken:
            self._hints.add_feed()
            self._somebody.set()

    def watch(self, watching: bool, what: Kind = "jobs") -> None:  # noqa: FBT001 - the one thing that it says
        """Whether somebody in this process watches jobs now, or another kind of hints is wanted.

        Others hear at once that it is, and with the next hello that it is not. All but jobs are wanted at first.
        """
        if not watching:
            self._wants.discard(what)
        elif what not in self._wants:
            self._wants.add(what)
            if what not in self._said and (self._peers or self._taken):
                self._hello_by(0.0)

    # The loops

    def loops(self) -> Iterator[tuple[str, Callable[[], Coroutine[Any, Any, None]]]]:
        """The loops that the engine is to run, by name; none without a bus."""
        if self._bus is not None:
            yield "bus listener", self.listen
            yield "bus sender", self.send

    async def listen(self) -> None:
        """The loop that listens, for good."""
        outage, backoff = _Outage("bus.lost"), Backoff()
        while self._bus is not None:
            began = time.monotonic()
            try:
                await self._bus.listen(self._hear, lambda: self._on_connected(outage))
            except Exception as error:  # noqa: BLE001 - whatever it is, there are the polls
                outage.begin(error)
            self._linked.clear()
            if time.monotonic() - began > STEADY:
                backoff.reset()
            await backoff.pause()

    async def send(self) -> None:
        """The loop that sends: the first hint at once, and whatever gathers until the next may go."""
        outage, backoff = _Outage("bus.send_failed"), Backoff()
        while self._bus is not None:
            await self._linked.wait()
            self._forget(time.monotonic())
            if time.monotonic() < self._hello_at and not self._hints.kinds() & self._wanted:
                await self._somebody.wait(self._idle_for(time.monotonic()))
                continue
            await self._bucket.wait(1)  # meanwhile, more hints gather for the same messages
            messages = self._next_messages(time.monotonic())
            await self._bucket.wait(len(messages))
            self._bucket.take(len(messages))
            try:
                async with asyncio.timeout(SEND_TIMEOUT):
                    await self._bus.send([to_text(each) for each in messages])
            except Exception as error:  # noqa: BLE001 - as above
                outage.begin(error)
                self._put_back(messages)
                await backoff.pause()
                continue
            if self._echo_by is None:
                self._echo_by = time.monotonic() + ECHO_WITHIN
            outage.over()
            backoff.reset()
            await asyncio.sleep(MERGE)

    def _next_messages(self, now: float) -> list[Message]:
        messages = self._hints.take(self._process, self._wanted)
        if now >= self._hello_at:
            self._say_whether_deaf(now)
            self._said = frozenset(self._wants)
            messages[0].hello = sorted(self._said)
            messages[0].new, self._new = self._new, False
            self._hello_at = now + HELLO_EVERY * random.uniform(0.9, 1.1)
        return messages

    def _put_back(self, messages: list[Message]) -> None:
        self._hints.put_back(messages)
        if messages[0].hello is not None:
            self._new = self._new or messages[0].new
            self._hello_at = 0.0

    def _say_whether_deaf(self, now: float) -> None:
        if self._echo_by is not None and self._echo_by < now:
            log.warning("bus.deaf", then="what happens in other processes is found by polls")
            self._echo_by = float("inf")  # said once a link

    # What comes in

    def _on_connected(self, outage: _Outage) -> None:
        now = time.monotonic()
        outage.over()
        self._new, self._echo_by = True, None
        self._new_until = now + NEWCOMER
        self._hello_by(0.0)
        self._count()
        self._linked.set()
        self._tell(self._on_jobs, None)  # what was sent before is gone
        self._tell(self._on_feed)

    def _hear(self, text: str) -> None:
        message = from_text(text)
        if message is None:
            return
        if message.process == self._process:
            self._echo_by = float("inf")
            return
        if message.process in self._peers:
            self._peers[message.process].heard = time.monotonic()
        if message.hello is not None:
            self._greet(message, frozenset(message.hello))
        if message.all_jobs or message.jobs:
            self._tell(self._on_jobs, None if message.all_jobs else message.jobs)
        if message.work:
            self._tell(self._on_work, message.work)
        for job_id in message.cancel:
            self._tell(self._on_cancel, job_id)
        for tenant, name in message.topics:
            self._tell(self._on_topic, tenant, name)
        if message.feed:
            self._tell(self._on_feed)

    def _greet(self, message: Message, wants: AbstractSet[str]) -> None:
        now = time.monotonic()
        known = self._peers.get(message.process)
        if known is None and len(self._peers) >= MOST_PEERS:
            return
        newly = wants - (known.wants if known else frozenset())
        self._peers[message.process] = _Peer(KINDS & wants, now)
        self._count()
        if message.new:  # one hello answers all who have come meanwhile
            self._hello_by(now + random.uniform(0.0, ANSWER_WITHIN))
        if "jobs" in newly and self._untold:  # what happened between its first look and its hello
            self._untold = False
            self._hints.add_all_jobs()
        if "feed" in newly:
            self._tell(self._on_feed)  # somebody began to follow a feed
        self._somebody.set()

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            callback(*arguments)
        except Exception:
            log.exception("bus.hint_failed")

    # Who is there

    def _forget(self, now: float) -> None:
        silent = [name for name, peer in self._peers.items() if peer.heard + FORGET_AFTER <= now]
        for name in silent:
            del self._peers[name]
        if silent or self._new_until <= now:
            if self._new_until <= now:
                self._new_until = 0.0
            self._count()

    def _count(self) -> None:
        wanted = frozenset[Kind]().union(*(peer.wants for peer in self._peers.values()))
        self._wanted = wanted
        self._taken = KINDS if self._new_until else wanted
        self._untold = self._untold or "jobs" in self._hints.kinds() - self._taken
        self._hints.drop(KINDS - self._taken)

    def _hello_by(self, moment: float) -> None:
        self._hello_at = min(self._hello_at, moment)
        self._somebody.set()

    def _idle_for(self, now: float) -> float:
        ends = [self._hello_at, *(peer.heard + FORGET_AFTER for peer in self._peers.values())]
        if self._new_until:
            ends.append(self._new_until)
        return max(0.0, min(ends) - now)


class _Peer:
    """Another process: what it wants, and when it was last heard."""

    __slots__ = ("heard", "wants")

    def __init__(self, wants: AbstractSet[Kind], heard: float) -> None:
        self.wants = wants
        self.heard = heard


class _Bucket:
    """So many a second, and so many at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._left = float(burst)
        self._at = time.monotonic()

    async def wait(self, count: int) -> None:
        """Waits until there are so many."""
        missing = count - self._refilled()
        if missing > 0:
            await asyncio.sleep(missing / self._rate)

    def take(self, count: int) -> None:
        """Takes so many."""
        self._left = self._refilled() - count

    def _refilled(self) -> float:
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        return self._left


class _Outage:
    """Trouble that is logged when it begins and when it is over, not each time that it shows."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._going_on = False

    def begin(self, error: Exception) -> None:
        """It did not work."""
        if not self._going_on:
            log.warning(self._event, error=str(error) or type(error).__name__)
        self._going_on = True

    def over(self) -> None:
        """It works."""
        if self._going_on:
            log.info("bus.back", after=self._event)
        self._going_on = False
