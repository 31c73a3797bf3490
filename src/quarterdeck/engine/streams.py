"""Streams: the events of single jobs, read once for everybody in this process who follows them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Self

from quarterdeck.domain.events import Event, Past, events_after, merged
from quarterdeck.engine.calls import Calls
from quarterdeck.engine.meter import Meter
from quarterdeck.engine.tasks import Signal
from quarterdeck.engine.trouble import Trouble
from quarterdeck.engine.waiters import Version, Waiters
from quarterdeck.store.events import EventStore

MAX_READ = 250
"""Jobs whose events are read by one statement."""
MAX_KEPT = 256
"""Events of a job that are kept for those who follow it; who is further behind reads for itself."""
MERGED_OVER = 32
"""Events that somebody may be behind before runs of progress become one event."""


class Gone(Exception):
    """The job that somebody follows is not there any more."""


class JobStreams:
    """Reads what happens to the jobs that somebody here follows, soon after each of their commits."""

    def __init__(self, events: EventStore, *, waiters: Waiters, calls: Calls, meter: Meter) -> None:
        self._events = events
        self._waiters = waiters
        self._calls = calls
        self._meter = meter
        self._streams: dict[uuid.UUID, JobStream] = {}
        self._behind: dict[uuid.UUID, None] = {}
        self._somebody = Signal()

    def follow(self, job_id: uuid.UUID, after: int, ready: Callable[[], None], *, seq: int | None = None) -> Following:
        """Begins to follow a job after some seq. `ready` is called when there may be something to take.

        The caller has looked the job up and found it at `seq`; without that it need not be there yet.
        """
        stream = self._streams.get(job_id)
        if stream is None:
            # Somebody may ask for what comes after an event that never was; the others are not to wait for it.
            stream = self._streams[job_id] = JobStream(self, job_id, min(after, seq or 0))
            self._waiters.add(stream)
        stream.found = stream.found or seq is not None
        following = Following(stream, after, ready)
        stream.followers.add(following)
        self.read_soon(job_id)
        return following

    def read_soon(self, job_id: uuid.UUID) -> None:
        """The job may have changed."""
        self._behind[job_id] = None
        self._somebody.set()

    def forget(self, stream: JobStream) -> None:
        """Nobody follows the job any more."""
        if self._streams.get(stream.job_id) is stream:
            del self._streams[stream.job_id]
            self._behind.pop(stream.job_id, None)
            self._waiters.discard(stream)

    @property
    def followed(self) -> int:
        """How many jobs somebody follows."""
        return len(self._streams)

    async def read(self, job_id: uuid.UUID, after: int) -> Past | None:
        """A job's past after some seq, for somebody who is far behind. Raises Unavailable."""
        return (await self._calls.call(self._events.read_events({job_id: after}))).get(job_id)

    async def run(self) -> None:
        """The loop: whatever changed while the last group was read is the next group."""
        trouble = Trouble("streams", self._meter, longest=1.0)
        while True:
            if not self._behind:
                await self._somebody.wait()
            group = {}
            for job_id in list(self._behind)[:MAX_READ]:
                del self._behind[job_id]
                if job_id in self._streams:
                    group[job_id] = self._streams[job_id].seq
            try:
                if group:
                    await self._read(group)
                trouble.over()
            except Exception as error:  # noqa: BLE001 - sorted there
                for job_id in group:
                    self._behind[job_id] = None
                await trouble.wait_out(error)

    async def _read(self, group: dict[uuid.UUID, int]) -> None:
        found = await self._events.read_events(group)
        for job_id in group:
            stream = self._streams.get(job_id)
            if stream is not None:
                stream.read(found.get(job_id))


class JobStream:
    """One job's events, the latest of which are kept."""

    __slots__ = ("_kept", "_streams", "followers", "found", "gone", "job_id", "seq", "version")

    def __init__(self, streams: JobStreams, job_id: uuid.UUID, seq: int) -> None:
        self.job_id = job_id
        self.seq = seq
        """Up to which event everything was read."""
        self.version: Version | None = (0, seq)
        self.found = False
        self.gone = False
        self.followers: set[Following] = set()
        self._streams = streams
        self._kept: list[Event] = []

    def told(self, version: Version | None, *, ended: bool) -> None:  # noqa: ARG002 - an end is news like any other
        """The job has changed, to this version where anybody knows; from Waiters."""
        if version is None or version[1] > self.seq or not self.found:
            self._streams.read_soon(self.job_id)

    def refuse(self) -> None:
        """This process stops: whoever serves the followers knows."""

    def read(self, past: Past | None) -> None:
        """What a reading brought."""
        if past is None:
            self.gone = self.found
        else:
            self.found, self.gone = True, False
            events = events_after(past, self.seq)
            if events:
                self.seq = events[-1].seq
                self.version = (past.generation, self.seq)
                self._kept = [*self._kept, *events][-MAX_KEPT:]
            if past.seq > self.seq and events:
                self._streams.read_soon(self.job_id)  # there was more than one reading takes
        for following in list(self.followers):
            following.ready()

    def after(self, seq: int) -> Sequence[Event] | None:
        """The events after `seq`; None where they are not kept any more."""
        if seq >= self.seq:
            return ()
        first = self._kept[0].seq if self._kept else self.seq + 1
        return None if seq + 1 < first else self._kept[seq + 1 - first :]

    async def past(self, seq: int) -> Past | None:
        """Reads the events after `seq` once more. Raises Unavailable."""
        return await self._streams.read(self.job_id, seq)

    def leave(self, following: Following) -> None:
        """Somebody has stopped to follow."""
        self.followers.discard(following)
        if not self.followers:
            self._streams.forget(self)


class Following:
    """Somebody's place in a job's events. A context manager that ends with it."""

    __slots__ = ("ready", "seq", "stream")

    def __init__(self, stream: JobStream, seq: int, ready: Callable[[], None]) -> None:
        self.stream = stream
        self.seq = seq
        """The last event that was taken."""
        self.ready = ready

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops to follow."""
        self.stream.leave(self)

    @property
    def pending(self) -> bool:
        """Whether there is something to take."""
        return self.seq < self.stream.seq or self.stream.gone

    async def take(self, most: int = 100) -> list[Event]:
        """The next events, at once where there are some, and none where there are none yet.

        Who is far behind gets one progress for several. Raises Gone, Unavailable.
        """
        if self.stream.gone:
            raise Gone(f"job {self.stream.job_id} was deleted")
        if self.seq >= self.stream.seq:
            return []
        events = self.stream.after(self.seq)
        if events is None:
            past = await self.stream.past(self.seq)
            if past is None:
                raise Gone(f"job {self.stream.job_id} was deleted")
            events = events_after(past, self.seq)
        if len(events) > MERGED_OVER:
            events = list(merged(events))
        taken = list(events[:most])
        if taken:
            self.seq = taken[-1].seq
        return taken
