"""Channel: the connection that all watches of a client share, made again whenever it is lost."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import httpx

from quarterdeck.client.connection import Connection, Frame, opened
from quarterdeck.client.errors import (
    Closed,
    Forbidden,
    QuarterdeckClientError,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
    error_of,
)
from quarterdeck.client.rest import pause_after
from quarterdeck.client.subscriptions import Subscription

STEADY = 5.0
"""Seconds after which a connection counts as one that works: when it is lost, the next is made at once."""


class Channel:
    """Serves subscriptions. There is a connection from the first one on, and as long as it lasts."""

    def __init__(
        self,
        address: httpx.URL,
        headers: Mapping[str, str],
        trusted: ssl.SSLContext | None,
        *,
        timeout: float,
        patience: float,
        outlast: float,
    ) -> None:
        self._address = address
        self._headers = headers
        self._trusted = trusted
        self._timeout = timeout
        self._patience = patience
        self._outlast = outlast
        self._subscriptions: set[Subscription] = set()
        self._named: dict[str, Subscription] = {}
        self._numbers = itertools.count(1)
        self._connection: Connection | None = None
        self._runner: asyncio.Task[None] | None = None
        self._closed = False

    def follow(self, subscription: Subscription) -> None:
        """Begins with a subscription."""
        if self._closed:
            subscription.fail(Closed("the client is closed"))
            return
        self._subscriptions.add(subscription)
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run(), name="quarterdeck-client-channel")
        self._subscribe(subscription)

    def go_on(self, subscription: Subscription) -> None:
        """What had come was taken: where the service was asked to stop, it is asked to go on."""
        self._subscribe(subscription)

    def leave(self, subscription: Subscription) -> None:
        """Ends a subscription."""
        self._subscriptions.discard(subscription)
        self._unsubscribe(subscription)

    async def close(self) -> None:
        """Ends all subscriptions and the connection."""
        self._closed = True
        self._fail(Closed("the client was closed"))
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)

    def _subscribe(self, subscription: Subscription) -> None:
        if self._connection is None or subscription not in self._subscriptions or subscription.name is not None:
            return
        # A new name each time: what still comes under an earlier one is not mistaken for what was asked for now.
        subscription.name = f"{next(self._numbers)}"
        self._named[subscription.name] = subscription
        self._connection.send({"op": "subscribe", "sub": subscription.name, **subscription.wanted()})

    def _unsubscribe(self, subscription: Subscription) -> None:
        name, subscription.name = subscription.name, None
        if name is not None and self._named.pop(name, None) is not None and self._connection is not None:
            self._connection.send({"op": "unsubscribe", "sub": name})

    async def _run(self) -> None:
        try:
            await self._connect()
        except Exception as error:
            self._fail(UnexpectedAnswer(f"the live channel ended by a fault: {error!r}"))  # nobody waits in vain
            raise

    async def _connect(self) -> None:
        """Connects as long as there is somebody to serve."""
        loop = asyncio.get_running_loop()
        failures, since, limit = 0, loop.time(), min(self._patience, self._outlast)
        has_worked = False
        while self._subscriptions:
            pause: float | None = None
            greeted: float | None = None
            lost: QuarterdeckClientError = Unreachable(f"the connection to {self._address} was lost")
            try:
                async with opened(self._address, self._headers, self._trusted, self._timeout) as connection:
                    greeted = loop.time()
                    await self._serve(connection)
                    pause = connection.reconnect_after
            except QuarterdeckClientError as error:
                if not _is_passing(error, has_worked=has_worked and greeted is None):
                    self._fail(error)
                    return
                lost = error
            now = loop.time()
            if greeted is not None:
                has_worked = True
                since, limit = now, self._outlast
                failures = 0 if now - greeted >= STEADY else failures
            failures += 1
            pause = pause_after(failures) if pause is None else pause
            if now + pause - since > limit:
                self._fail(lost)
                return
            await asyncio.sleep(pause)

    async def _serve(self, connection: Connection) -> None:
        """Serves the subscriptions until the connection is lost."""
        self._connection = connection
        try:
            for subscription in list(self._subscriptions):
                if not subscription.is_full:
                    self._subscribe(subscription)
            async with aclosing(connection.frames()) as frames:
                async for frame, document in frames:
                    self._deliver(frame, document)
        finally:
            self._connection = None
            self._named.clear()
            for subscription in self._subscriptions:
                subscription.name = None

    def _deliver(self, frame: Frame, document: dict[str, Any]) -> None:
        subscription = self._named.get(frame.sub or "")
        if subscription is None:
            return
        if frame.type == "error":
            self._refused(subscription, frame.problem or {})
            return
        try:
            subscription.take(frame, document)
        except ValueError as error:  # msgspec's errors are among them
            subscription.fail(UnexpectedAnswer(f"a frame of the service cannot be read: {error}"))
        if subscription.over:
            self.leave(subscription)
        elif subscription.is_full:
            self._unsubscribe(subscription)

    def _refused(self, subscription: Subscription, problem: dict[str, Any]) -> None:
        status = problem.get("status")
        error = error_of(status if isinstance(status, int) else 500, problem)
        del self._named[subscription.name or ""]
        subscription.name = None
        if isinstance(error, Unavailable | TooManyRequests):
            subscription.failures += 1
            asyncio.get_running_loop().call_later(pause_after(subscription.failures), self._subscribe, subscription)
            return
        self._subscriptions.discard(subscription)
        subscription.fail(error)

    def _fail(self, error: QuarterdeckClientError) -> None:
        for subscription in list(self._subscriptions):
            self._subscriptions.discard(subscription)
            subscription.fail(error)


def _is_passing(error: QuarterdeckClientError, *, has_worked: bool) -> bool:
    """Whether it is worth to connect again. Where it has worked, whatever stands in its place for now goes away."""
    if isinstance(error, Unreachable | Unavailable | TooManyRequests):
        return True
    return has_worked and not isinstance(error, Unauthenticated | Forbidden)
