"""The watchers: stock clients of the live channel that come and go, on any replica, and write down what they see."""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.soak.history import FeedWatch, Gap, JobWatch, Sight
from tests.soak.load import Door, Load

ONE_BY_ONE = 6
"""Jobs that are followed at the same time, each until its end."""
RECENT = 60
"""Of so many of the latest submits one is chosen."""
STAY = (0.5, 4.0)
"""Seconds that a watcher stays with a replica, drawn evenly."""
LONG_STAY = 30.0
"""The same once the load is over, and there is only the rest to see."""
PAUSE = 0.2
QUIET = 8.0
"""Seconds without an event after which a feed that is connected has brought all."""
OPEN_WITHIN = 2.0
CLOSE_WITHIN = 0.5
"""The library does not see the end of a closing handshake behind frames that nobody reads, and waits for 10 s."""
PLAIN: Any = {"compression": None, "proxy": None, "max_size": None}
SHORT_OF_HELP = 503
TERMINAL = frozenset(("job.completed", "job.cancelled", "job.discarded"))


class Watchers:
    """One that follows all jobs as a feed, resuming by its cursor, and some that follow one job after the other."""

    def __init__(self, doors: Sequence[Door], load: Load, *, seed: int) -> None:
        self.feed = FeedWatch()
        self.jobs: list[JobWatch] = []
        self.connections = 0
        self._doors = doors
        self._load = load
        self._draw = random.Random(seed)
        self._tasks: list[asyncio.Task[None]] = []
        self._heard_at = 0.0
        self._no_more = False
        self._connected = False
        self._cursor: str | None = None
        self._seen: set[uuid.UUID] = set()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._follow_all())]
        self._tasks += [asyncio.create_task(self._follow_one_by_one()) for _ in range(ONE_BY_ONE)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def settle(self, within: float) -> None:
        """Chooses no further jobs; waits until those that are followed are seen to the end, and the feed is still."""
        self._no_more = True
        deadline = time.monotonic() + within
        feed, *others = self._tasks
        if others:
            await asyncio.wait(others, timeout=within)
        while time.monotonic() < deadline:
            if feed.done():
                await feed  # raises what ended it
            if self._connected and time.monotonic() - self._heard_at > QUIET:
                return
            await asyncio.sleep(PAUSE)

    # The feed

    async def _follow_all(self) -> None:
        while True:
            await self._visit(self._read_all)
            self._connected = False

    async def _read_all(self, connection: ClientConnection) -> None:
        cursor = {} if self._cursor is None else {"cursor": self._cursor}
        await connection.send(json.dumps({"op": "subscribe", "sub": "all", "all": True, **cursor}))
        watch = self.feed
        while True:
            frame = await _frame(connection)
            now = time.monotonic_ns()
            if frame["type"] == "subscribed":
                self._connected, self._heard_at = True, time.monotonic()
                watch.since = watch.since or now
                self._cursor = self._cursor or frame["cursor"]
            elif frame["type"] == "event":
                watch.sights.append(_sight(frame, now))
                self._heard_at = time.monotonic()
            elif frame["type"] == "gap":
                before = watch.sights[-1].at if watch.sights else watch.since
                watch.gaps.append(Gap(before, now))
                self._heard_at = time.monotonic()
            elif _ends_visit(frame, watch.errors):
                return
            if frame["type"] in ("event", "gap"):
                self._cursor = frame["cursor"]

    # Jobs

    async def _follow_one_by_one(self) -> None:
        while not self._no_more:
            job_id = self._chosen()
            if job_id is None:
                await asyncio.sleep(PAUSE)
                continue
            watch = JobWatch(job_id)
            self.jobs.append(watch)
            while not watch.ended:
                await self._visit(partial(self._read_one, watch))

    def _chosen(self) -> uuid.UUID | None:
        recent = [answer.job_id for submit in self._load.submits[-RECENT:] for answer in submit.answers]
        found = [job_id for job_id in recent if job_id is not None and job_id not in self._seen]
        if not found:
            return None
        self._seen.add(chosen := self._draw.choice(found))
        return chosen

    async def _read_one(self, watch: JobWatch, connection: ClientConnection) -> None:
        after = watch.sights[-1].seq if watch.sights else 0
        await connection.send(json.dumps({"op": "subscribe", "sub": "one", "job": str(watch.job_id), "after": after}))
        while not watch.ended:
            frame = await _frame(connection)
            if frame["type"] == "event":
                watch.sights.append(_sight(frame, time.monotonic_ns()))
                watch.ended = frame["event"] in TERMINAL
            elif frame["type"] != "snapshot" and _ends_visit(frame, watch.errors):
                return

    # Both

    async def _visit(self, read: Callable[[ClientConnection], Awaitable[None]]) -> None:
        """Reads from some replica for a while."""
        doors = [door for door in self._doors if door.open]
        if doors:
            url = self._draw.choice(doors).url.replace("http://", "ws://") + "/v1/live"
            with suppress(OSError, TimeoutError, WebSocketException, EOFError):
                async with (
                    asyncio.timeout(LONG_STAY if self._no_more else self._draw.uniform(*STAY)),
                    connect(url, open_timeout=OPEN_WITHIN, close_timeout=CLOSE_WITHIN, **PLAIN) as connection,
                ):
                    self.connections += 1
                    await read(connection)
        await asyncio.sleep(self._draw.uniform(0.0, PAUSE))


async def _frame(connection: ClientConnection) -> dict[str, Any]:
    while True:
        frame: dict[str, Any] = json.loads(await connection.recv())
        if frame["type"] not in ("hello", "ping"):
            return frame


def _ends_visit(frame: dict[str, Any], errors: list[str]) -> bool:
    """Whether there is nothing more to come here. An error is noted, unless it says that it will pass."""
    if frame["type"] == "error" and frame["problem"]["status"] != SHORT_OF_HELP:
        errors.append(json.dumps(frame))
    return frame["type"] in ("error", "drain")


def _sight(frame: dict[str, Any], at: int) -> Sight:
    return Sight(at, uuid.UUID(frame["job_id"]), frame["seq"], frame["event"], frame.get("merged_from"))
