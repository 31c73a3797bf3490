"""Quarterdeck: what an application holds: its handlers, and ways to submit work."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from quarterdeck.domain.errors import Unavailable
from quarterdeck.domain.handler import AsyncHandler, Handler
from quarterdeck.domain.submission import KindDefaults

if TYPE_CHECKING:
    from quarterdeck.domain.job import Job
    from quarterdeck.engine.handle import JobHandle
    from quarterdeck.engine.service import Engine


ResourceMaker = Callable[[], AbstractAsyncContextManager[Any]]
"""Makes a resource: it is entered when the service starts, and left when it has stopped."""


class Quarterdeck:
    """An application's handlers. Making one does no I/O: `qd serve module:deck` runs it.

    `resources` is what handlers find as `ctx.resources`: clients, pools, configuration.
    """

    def __init__(self) -> None:
        self.resources: dict[str, Any] = {}
        self._handlers: dict[str, Handler] = {}
        self._makers: dict[str, ResourceMaker] = {}
        self._engine: Engine | None = None

    def handler(
        self,
        kind: str | None = None,
        *,
        queue: str | None = None,
        priority: int | None = None,
        timeout: float | str | None = None,
        max_attempts: int | None = None,
        retry: Mapping[str, Any] | None = None,
        ttl: float | str | None = None,
        tags: list[str] | None = None,
        unique: bool | Mapping[str, Any] | None = None,
        run_in: str = "async",
    ) -> Callable[[AsyncHandler], HandlerFunction]:
        """Registers an async function as the handler of `kind` (default: its name).

        The other options are the kind's defaults, used where a submit does not give them. Durations are seconds or
        strings such as `"10s"`. Raises InvalidSubmit for an option that breaks a rule, TypeError for a function whose
        arguments cannot come from JSON, ValueError for a kind that is taken.
        """
        _check_name("handler", kind)
        if run_in != "async":
            raise ValueError(f"run_in={run_in!r}: this release runs async handlers only")
        options = {
            "queue": queue,
            "priority": priority,
            "timeout": timeout,
            "max_attempts": max_attempts,
            "retry": dict(retry) if retry is not None else None,
            "ttl": ttl,
            "tags": tags,
            "unique": dict(unique) if isinstance(unique, Mapping) else unique,
        }

        def register(function: AsyncHandler) -> HandlerFunction:
            name = kind or function.__name__
            if name in self._handlers:
                raise ValueError(f"two handlers for kind {name!r}")
            self._handlers[name] = Handler(name, function, KindDefaults.of(name, options))
            return HandlerFunction(self, name, function)

        return register

    def resource(
        self, name: str | None = None
    ) -> Callable[[Callable[[], AsyncIterator[Any] | AbstractAsyncContextManager[Any]]], ResourceMaker]:
        """Registers what makes the resource `name` (default: the function's name), found as `ctx.resources[name]`.

        An async generator function that yields it once, or a function that returns an async context manager. Each
        process that runs jobs opens its resources in the order of their registration before its first job, and closes
        them in the opposite order after its last one. What is in `resources` already under that name stays, and nothing
        is opened. Raises ValueError for a name that is taken, TypeError for what can make none.
        """
        _check_name("resource", name)

        def register(make: Callable[[], Any]) -> ResourceMaker:
            chosen = name or str(getattr(make, "__name__", make))
            if isinstance(make, AbstractAsyncContextManager):
                raise TypeError(f"resource {chosen!r}: give a function that makes it, so that each start has its own")
            if inspect.iscoroutinefunction(make):
                raise TypeError(f"resource {chosen!r}: `yield` it instead of returning it, so that it can be closed")
            if inspect.isgeneratorfunction(make):
                raise TypeError(f"resource {chosen!r}: the function that yields it must be an `async def`")
            if chosen in self._makers:
                raise ValueError(f"two resources of the name {chosen!r}")
            maker: ResourceMaker = asynccontextmanager(make) if inspect.isasyncgenfunction(make) else make
            self._makers[chosen] = maker
            return maker

        return register

    @property
    def resource_makers(self) -> Mapping[str, ResourceMaker]:
        """What makes the resources that live as long as the service, by their names."""
        return self._makers

    @property
    def handlers(self) -> list[Handler]:
        """The registered handlers."""
        return list(self._handlers.values())

    @property
    def engine(self) -> Engine | None:
        """The engine that runs it in this process, if one does."""
        return self._engine

    async def submit(self, kind: str, args: Mapping[str, Any] | None = None, **options: Any) -> JobHandle:
        """Submits a job by the name of its kind; `options` as in REST: queue, priority, delay, run_at, ttl, ...

        Raises SubmitError where it cannot be accepted, Unavailable where the service does not run or its database
        cannot be reached.
        """
        return await self._running().jobs.submit_by_name(kind, args, **options)

    async def get(self, job_id: uuid.UUID | str) -> Job:
        """The job as it is now. Raises JobNotFound, Unavailable."""
        return await self._running().jobs.get(uuid.UUID(str(job_id)))

    async def cancel(self, job_id: uuid.UUID | str) -> Job:
        """Cancels a job, or asks it to stop where it runs. Raises JobNotFound, Unavailable."""
        return await self._running().jobs.cancel(uuid.UUID(str(job_id)))

    async def gather(self, *submits: Awaitable[JobHandle], return_exceptions: bool = False) -> list[Any]:
        """Submits all, waits for all, and returns their results in order.

        The first failure is raised, unless `return_exceptions` puts it in its job's place; the other jobs go on.
        """

        async def result(submit: Awaitable[JobHandle]) -> Any:
            return await (await submit).result()

        return await asyncio.gather(*(result(submit) for submit in submits), return_exceptions=return_exceptions)

    def attach(self, engine: Engine | None) -> None:
        """Connects the deck to the engine that runs it, or disconnects it; called by the service."""
        self._engine = engine

    def _running(self) -> Engine:
        if self._engine is None:
            raise Unavailable("the service of this deck does not run in this process")
        return self._engine


def _check_name(decorator: str, name: object) -> None:
    if callable(name):  # it would be registered as nothing
        raise TypeError(f"write @deck.{decorator}(), with parentheses")


class HandlerFunction:
    """A registered handler: still the function it was, and a way to submit it."""

    def __init__(self, deck: Quarterdeck, kind: str, function: AsyncHandler) -> None:
        self._deck = deck
        self._function = function
        self.kind = kind
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__wrapped__ = function

    @property
    def deck(self) -> Quarterdeck:
        """The deck that it is registered with."""
        return self._deck

    def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Calls the function itself, as in a test."""
        return self._function(*args, **kwargs)

    async def submit(self, **args: Any) -> JobHandle:
        """Submits a job with these arguments. Raises what `Quarterdeck.submit` raises."""
        return await self._deck.submit(self.kind, args)

    def options(self, **options: Any) -> Prepared:
        """Options for a submit: `await handler.options(delay="10s").submit(user_id=7)`."""
        return Prepared(self._deck, self.kind, options)


class Prepared:
    """A handler with submit options."""

    def __init__(self, deck: Quarterdeck, kind: str, options: Mapping[str, Any]) -> None:
        self._deck = deck
        self._kind = kind
        self._options = options

    async def submit(self, **args: Any) -> JobHandle:
        """Submits a job with these arguments. Raises what `Quarterdeck.submit` raises."""
        return await self._deck.submit(self._kind, args, **self._options)
