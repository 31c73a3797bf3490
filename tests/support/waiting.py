"""Wait for a fact, not for a time."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar, overload

T = TypeVar("T")

FIRST_PAUSE = 0.002
LONGEST_PAUSE = 0.1
PATIENCE = 15.0
"""Seconds that a fact may take to come: many times what it needs, since only a test that fails waits so long."""


@overload
async def eventually(check: Callable[[], Awaitable[T]], within: float = ...) -> T: ...
@overload
async def eventually(check: Callable[[], T], within: float = ...) -> T: ...
async def eventually(check: Callable[[], object], within: float = PATIENCE) -> object:
    """Call `check` until what it returns is true, and return that.

    `check` is a function or a coroutine function. One that raises `AssertionError` is tried again; every other
    exception is raised at once. Raises `AssertionError` after `within` seconds, with the last answer in it.
    """
    deadline = monotonic() + within
    pause = FIRST_PAUSE
    while True:
        failure: AssertionError | None = None
        try:
            answer = check()
            if inspect.isawaitable(answer):
                answer = await answer
            if answer:
                return answer
        except AssertionError as error:
            failure, answer = error, None
        if monotonic() + pause > deadline:
            last = f"last failure: {failure}" if failure else f"last answer: {answer!r}"
            raise AssertionError(f"not so within {within:g} s: {_name(check)}; {last}") from failure
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def _name(check: Callable[..., object]) -> str:
    return getattr(check, "__qualname__", repr(check))
