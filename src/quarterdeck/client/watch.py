"""Watch: an iterator over what happens."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Generic, Self, TypeVar, cast

from quarterdeck.client.channel import Channel
from quarterdeck.client.models import Event, Gap, Message
from quarterdeck.client.subscriptions import Subscription

ItemT = TypeVar("ItemT", bound=Event | Message | Gap)


class Watch(Generic[ItemT]):
    """What happens, as it happens: `async for item in watch`.

    It begins with the first item that is asked for, or with `async with watch`: inside, the service follows already.
    Of a watch that was not left by `async with` or `aclose()`, the end comes when nobody has it any more.
    """

    def __init__(self, channel: Channel, subscription: Subscription) -> None:
        self._started = False
        self._channel = channel
        self._subscription = subscription
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        self._start()
        try:
            while not (self._subscription.begun or self._subscription.over):
                await self._change()
        except BaseException:
            self._leave()
            raise
        if self._subscription.error is not None:
            raise self._subscription.error
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ItemT:
        self._start()
        subscription = self._subscription
        while not subscription.items:
            if subscription.error is not None:
                raise subscription.error
            if subscription.over:
                raise StopAsyncIteration
            await self._change()
        item = subscription.items.popleft()
        if not subscription.items:
            self._channel.go_on(subscription)
        return cast("ItemT", item)

    async def aclose(self) -> None:
        """Ends it."""
        self._leave()

    def __del__(self) -> None:
        if self._started and not self._subscription.over:
            with suppress(RuntimeError):  # the loop is closed, and everything with it
                self._loop.call_soon_threadsafe(self._channel.leave, self._subscription)

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._channel.follow(self._subscription)

    def _leave(self) -> None:
        self._started = True
        self._channel.leave(self._subscription)
        self._subscription.items.clear()
        self._subscription.over = True
        self._subscription.changed.set()

    async def _change(self) -> Any:
        self._subscription.changed.clear()
        await self._subscription.changed.wait()
