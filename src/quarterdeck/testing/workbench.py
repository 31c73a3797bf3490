"""workbench: a deck on a real database, where jobs run only when a test says so."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import msgspec

from quarterdeck.bootstrap import Runtime
from quarterdeck.config import Settings
from quarterdeck.deck import HandlerFunction, Quarterdeck
from quarterdeck.domain.job import Job, JobError
from quarterdeck.domain.jsonvalue import decode_stored
from quarterdeck.domain.listing import JobFilter
from quarterdeck.engine.handle import JobHandle
from quarterdeck.testing.drain import PAGE, Drain, listed
from quarterdeck.testing.ran import Line
from quarterdeck.testing.server import DatabaseServer
from quarterdeck.testing.submissions import check_not_submitted, check_submitted, kind_of

NO_QUEUE = "quarterdeck.testing.none"
"""The one queue that the engine of a workbench serves by itself: none that a test uses."""
LEASE = 300.0
"""Seconds; long, so that a test may stop at a breakpoint."""
QUIET: dict[str, Any] = {"role": "all", "queues": NO_QUEUE, "bus": "off", "lease": LEASE, "shutdown_grace": 0.0}
"""The settings with which a service does nothing by itself."""


@asynccontextmanager
async def workbench(
    deck: Quarterdeck, where: DatabaseServer | str, *, resources: Mapping[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Workbench]:
    """Runs the service of a deck in this event loop, except that it begins no job by itself.

    `where` is a server, on which it makes a database of its own for as long as it lasts, or the URL of a database that
    the test has made. `resources` are put over the deck's own meanwhile, and those that the deck opens for the service
    are opened unless they are given here. `settings` are some of the service's, such as `allow_private_targets`.

    Raises what a service raises that cannot start, TypeError for a setting that it makes itself, and Unavailable where
    the database cannot be reached.
    """
    if where == "embedded":  # the one in this directory, with jobs that somebody else has submitted
        raise ValueError("a workbench runs every job that it finds: give it a database_server(), or a test's database")
    if taken := sorted({"database_url", *QUIET} & settings.keys()):
        raise TypeError(f"{taken[0]} is no setting for a test: a workbench says that itself")
    async with AsyncExitStack() as stack:
        url = where if isinstance(where, str) else await stack.enter_async_context(where.database())
        stack.enter_context(_put(deck.resources, resources or {}))
        runtime = Runtime(Settings(**settings, **QUIET, database_url=url), deck)
        stack.callback(deck.attach, deck.engine)  # a workbench around this one goes on
        stack.push_async_callback(runtime.stop)
        await runtime.start()
        yield Workbench(deck, runtime)


class Workbench:
    """A deck and its database, to which `url` leads.

    Submit as always, by the handlers and the deck; `drain` runs what was submitted.
    """

    def __init__(self, deck: Quarterdeck, runtime: Runtime) -> None:
        self.deck = deck
        self.url = runtime.settings.database_url
        self._engine = runtime.engine
        self._engine.parts.tick.by_hand = True  # `drain` returns jobs as their attempts left them

    async def drain(
        self,
        queue: str | None = None,
        *,
        scheduled: bool = False,
        failures: bool = False,
        at_once: int = 1,
        limit: int = 1000,
        within: float = 30.0,
    ) -> list[Job]:
        """Runs what is due, of one queue or of all, until nothing is, jobs that handlers submit meanwhile among it.

        One job after another: queues by name, in a queue in the order of the service. `scheduled` runs what waits for
        its time, too, in the order of that time: delayed and snoozed jobs, and the next attempts of those that failed.
        `failures` says that attempts may fail. `at_once` is how many jobs may run at the same time: more than one where
        a handler waits for a job that it submits.

        Returns the jobs as each attempt left them, in the order in which the attempts ended. Raises AssertionError
        where an attempt failed and none was to, after `limit` attempts, and after `within` seconds.
        """
        __tracebackhide__ = True
        drain = Drain(self._engine, queue, scheduled=scheduled, at_once=at_once, limit=limit)
        patience = asyncio.timeout(within)
        try:
            async with patience:
                await drain.run()
        except TimeoutError:
            if not patience.expired():
                raise
            words = f"the queue is not drained within {within:g} s: {_kinds(drain.running)}"
            if drain.running and len(drain.running) >= at_once:
                words += f". If it waits for a job that it has submitted, let more run: drain(at_once={at_once + 1})"
            raise AssertionError(words) from None
        if drain.failed and not failures:
            raise AssertionError(
                "an attempt failed; where it should, say drain(failures=True)\n"
                + "\n".join(_failure(job) for job in drain.failed)
            )
        return drain.ended

    async def job(self, job: JobHandle | Job | uuid.UUID | str) -> Job:
        """A job as it is now. Raises JobNotFound."""
        return await self._engine.jobs.get(_id_of(job))

    async def logs(self, job: JobHandle | Job | uuid.UUID | str) -> list[Line]:
        """The lines that a job's attempts have logged, in order. Raises JobNotFound."""
        return [Line(told["level"], told["message"]) for told in await self._told(job, "log")]

    async def outputs(self, job: JobHandle | Job | uuid.UUID | str) -> list[Any]:
        """What a job's attempts have put out, in order. Raises JobNotFound."""
        return await self._told(job, "output")

    async def submitted(self, kind: HandlerFunction | str | None = None) -> list[Job]:
        """The jobs in the database, of one kind or of all, the oldest first, in whatever state they are now."""
        wanted = JobFilter(kind=None if kind is None else kind_of(kind))
        return [job async for job in listed(self._engine, wanted)][::-1]

    async def assert_submitted(
        self, kind: HandlerFunction | str, args: Mapping[str, Any] | None = None, **fields: Any
    ) -> list[Job]:
        """The jobs of a kind that have at least these arguments, and whose fields (queue, priority, tags, ...) are so.

        `delay` is the seconds from a job's submit to when it is due, and `count` how many there are to be. Raises
        AssertionError, with the jobs that there are and where they differ, if none fits, or not `count` of them.
        """
        __tracebackhide__ = True
        return check_submitted(await self.submitted(), kind, args, fields)

    async def assert_not_submitted(
        self, kind: HandlerFunction | str, args: Mapping[str, Any] | None = None, **fields: Any
    ) -> None:
        """Raises AssertionError where a job fits."""
        __tracebackhide__ = True
        check_not_submitted(await self.submitted(), kind, args, fields)

    async def _told(self, job: JobHandle | Job | uuid.UUID | str, event: str) -> list[Any]:
        told: list[Any] = []
        cursor = None
        while True:
            page = await self._engine.job_list.events(_id_of(job), event, limit=PAGE, cursor=cursor)
            told += [decode_stored(bytes(item.data)) for item in page.items]
            if (cursor := page.next) is None:
                return told[::-1]


@contextmanager
def _put(resources: MutableMapping[str, Any], given: Mapping[str, Any]) -> Iterator[None]:
    earlier = dict(resources)
    resources.update(given)
    try:
        yield
    finally:
        resources.clear()
        resources.update(earlier)


def _id_of(job: JobHandle | Job | uuid.UUID | str) -> uuid.UUID:
    return uuid.UUID(str(job.id if isinstance(job, JobHandle | Job) else job))


def _kinds(running: list[str]) -> str:
    return f"{', '.join(running)} still {'runs' if len(running) == 1 else 'run'}" if running else "nothing runs"


def _failure(job: Job) -> str:
    error = msgspec.json.decode(bytes(job.errors[-1]), type=JobError)
    lines = error.traceback or f"{error.type}: {error.message}"
    return f"{job.kind}, attempt {error.attempt}, now {job.state.value}:\n{lines}".rstrip()
