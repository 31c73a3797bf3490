"""What goes wrong, and when: drawn from a seed, the same every time.

A round of a minute has two halves. In the first, processes are lost: killed, stopped for longer than their lease, cut
off from the database, close to one another and in any order. In the second come those faults by which nothing may be
lost: replies that never arrive, connections that are reset, slow, silent or refused, backends that are ended, a server
without room for connections, a process that is asked to end, and the database restarted, both ways. From the second
round on the first half may hold a restart, too.
"""

from __future__ import annotations

import random
from typing import Literal

import msgspec

from tests.soak.history import FaultName

REPLICAS = 3
ROUND = 57.0
"""Seconds of a whole round."""
SHORT_ROUND = 15.0
"""Seconds that a round must have at least; one that is shorter than ROUND is cut down."""
QUIET = 2.0
"""Seconds before the first fault."""

Way = Literal["both", "to_server", "to_client", "unread"]
"""What a black hole swallows; `unread`: nothing, but it all comes later."""


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """A fault to come: `at` seconds after the load began, for so many `seconds` where it lasts.

    `share` is how much of the replies is lost; `application` is whose connections vanish in a black hole: everybody's
    by default. A restart keeps the database away for `seconds`.
    """

    at: float
    name: FaultName
    replica: int | None = None
    seconds: float = 0.0
    share: float = 0.0
    way: Way = "both"
    application: str = ""


def plan(seed: int, seconds: float, lease: float) -> list[Planned]:
    """All faults of a soak of so many seconds, in order."""
    draw = random.Random(seed)
    planned: list[Planned] = []
    began = QUIET
    number = 0
    while seconds - began >= ROUND - QUIET:
        planned += _round(draw, began, lease, mixed=number > 0 and draw.random() < 0.5)
        began += ROUND
        number += 1
    if seconds - began >= SHORT_ROUND - QUIET:
        planned += _short_round(draw, began, seconds - began)
    return sorted(planned, key=lambda fault: fault.at)


def _round(draw: random.Random, began: float, lease: float, *, mixed: bool) -> list[Planned]:
    whom = draw.sample(range(REPLICAS), REPLICAS)
    losing: list[FaultName] = ["kill", "stop", "black_hole"]
    draw.shuffle(losing)
    planned = []
    at = began + draw.uniform(0.0, 1.0)
    for name, replica in zip(losing, whom, strict=True):
        way: Way = draw.choice(["both", "to_server", "to_client", "unread"])
        planned.append(
            Planned(at=at, name=name, replica=replica, seconds=lease + draw.uniform(2.0, 5.0), way=way),
        )
        at += draw.uniform(1.0, 2.5)
    if mixed:
        planned.append(_restarted(draw, began + draw.uniform(8.0, 14.0)))
    soft = began + lease + 11.0
    planned += _soft(draw, soft)
    first = _restarted(draw, soft + 7.0)
    other: FaultName = "restart_immediate" if first.name == "restart_fast" else "restart_fast"
    return [*planned, first, Planned(at=soft + 18.0, name=other, seconds=draw.uniform(0.0, 3.0))]


def _soft(draw: random.Random, at: float) -> list[Planned]:
    whom = draw.sample(range(REPLICAS), REPLICAS)
    part = draw.choice(["heartbeat", "engine", "api"])
    return [
        Planned(at=at, name="black_hole", replica=whom[1], seconds=5.0, application=f"quarterdeck-{part}"),
        Planned(at=at, name="lose_replies", replica=whom[0], seconds=3.0, share=draw.uniform(0.05, 0.3)),
        Planned(at=at + 0.5, name="lose_replies", replica=whom[1], seconds=2.0, share=draw.uniform(0.05, 0.3)),
        Planned(at=at + 1.0, name="reset", replica=whom[2]),
        Planned(at=at + draw.uniform(1.0, 3.0), name="delay", replica=whom[2], seconds=3.0),
        Planned(at=at + draw.uniform(1.0, 3.0), name="refuse", replica=whom[1], seconds=1.5),
        Planned(at=at + draw.uniform(1.0, 3.0), name="crowd", seconds=3.0),
        Planned(at=at + 3.0, name="end_backends", seconds=3.0),
        Planned(at=at + draw.uniform(3.5, 5.0), name="term", replica=whom[0]),
    ]


def _short_round(draw: random.Random, began: float, seconds: float) -> list[Planned]:
    """What fits into a quarter of a minute: all but the long silences. The kill comes last; its end is waited for."""
    whom = draw.sample(range(REPLICAS), REPLICAS)
    return [
        Planned(at=began, name="lose_replies", replica=whom[0], seconds=2.0, share=draw.uniform(0.05, 0.3)),
        Planned(at=began + 0.5, name="reset", replica=whom[1]),
        Planned(at=began + 1.0, name="end_backends", seconds=2.0),
        Planned(at=began + 2.0, name="term", replica=whom[2]),
        _restarted(draw, began + 3.0),
        Planned(at=began + seconds - 1.0, name="kill", replica=whom[0]),
    ]


def _restarted(draw: random.Random, at: float) -> Planned:
    name: FaultName = draw.choice(["restart_fast", "restart_immediate"])
    return Planned(at=at, name=name, seconds=draw.uniform(0.0, 3.0))
