"""The mix: what sort of jobs are submitted, how many of each in a hundred, and what is done with them after that."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

WAIT = 5
"""Seconds that a submit asks to be held until its job has ended."""
UNIQUE_KEYS = 40
LONG = 25.0
"""Seconds before the end of the load from which on no job of the longest sort is submitted."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to submit, and what to do after that.

    `wait`: seconds to be held until the job has ended. `twice`: once more under the same key when it was accepted.
    `cancel_after`: so many seconds after that. `retry`: run it again by hand when it has ended.
    """

    body: dict[str, Any]
    unique_key: str | None = None
    wait: int = 0
    twice: bool = False
    cancel_after: float | None = None
    retry: bool = False


def draw_order(draw: random.Random, number: int, *, long: bool) -> Order:
    """The next job of the mix; the longest of them only while there is time for them."""
    (make,) = draw.choices(list(MIX), list(MIX.values()))
    return _awaiting(draw, number) if make is _lasting and not long else make(draw, number)


def _plain(draw: random.Random, number: int) -> Order:
    body: dict[str, Any] = {"kind": "plain", "args": {"number": number}}
    if draw.random() < 0.2:
        body["priority"] = draw.randint(0, 9)
    if draw.random() < 0.2:
        body["queue"] = "second"
    return Order(body=body, twice=draw.random() < 0.03, wait=WAIT if draw.random() < 0.02 else 0)


def _delayed(draw: random.Random, number: int) -> Order:
    body = {"kind": "plain", "args": {"number": number}, "delay": round(draw.uniform(0.2, 4.0), 2)}
    return Order(body=body, twice=draw.random() < 0.1)


def _withdrawn(draw: random.Random, number: int) -> Order:
    body = {"kind": "plain", "args": {"number": number}, "delay": 30}
    return Order(body=body, cancel_after=draw.uniform(0.2, 3.0))


def _flaky(draw: random.Random, _: int) -> Order:
    return Order(body={"kind": "flaky", "args": {"failures": draw.randint(1, 3)}})


def _snoozing(draw: random.Random, _: int) -> Order:
    return Order(body={"kind": "snoozing", "args": {"seconds": round(draw.uniform(0.1, 2.0), 2)}})


def _awaiting(draw: random.Random, _: int) -> Order:
    seconds = round(draw.uniform(1.0, 8.0), 1)
    cancel_after = draw.uniform(0.5, seconds) if draw.random() < 0.25 else None
    return Order(body={"kind": "awaiting", "args": {"seconds": seconds}}, cancel_after=cancel_after)


def _lasting(draw: random.Random, _: int) -> Order:
    """Longer than the grace period of a stop."""
    return Order(body={"kind": "awaiting", "args": {"seconds": draw.randint(18, 22)}})


def _unique(draw: random.Random, _: int) -> Order:
    key = f"one-of-{draw.randint(1, UNIQUE_KEYS)}"
    args = {"seconds": draw.choice([0.2, 0.4, 2.0])}
    return Order(body={"kind": "awaiting", "args": args, "unique": {"key": key}}, unique_key=key)


def _doomed(draw: random.Random, _: int) -> Order:
    return Order(body={"kind": "doomed"}, retry=draw.random() < 0.3)


def _declining(_: random.Random, __: int) -> Order:
    return Order(body={"kind": "declining"})


def _overrunning(_: random.Random, __: int) -> Order:
    return Order(body={"kind": "overrunning"})


MIX: Mapping[Callable[[random.Random, int], Order], float] = {
    _plain: 62.0,
    _delayed: 10.0,
    _withdrawn: 3.0,
    _flaky: 6.0,
    _snoozing: 4.0,
    _awaiting: 7.0,
    _lasting: 0.2,
    _unique: 3.8,
    _doomed: 2.0,
    _declining: 1.0,
    _overrunning: 1.0,
}
"""How many of each in a hundred jobs."""
