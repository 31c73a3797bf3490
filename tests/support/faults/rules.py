"""What can go wrong on a link, and how often it has."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import msgspec

Direction = Literal["to_server", "to_client"]
Ending = Literal["close", "reset", "silence"]
"""How a connection ends that lost something: closed, closed by a reset, or open and silent for good."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Something that goes wrong on connections whose `application_name` contains `application`: on all by default."""

    application: str = ""


class Delay(Fault, frozen=True, kw_only=True):
    """What arrives is passed on so many seconds later, and up to `jitter` more, drawn evenly each time."""

    to_server: float = 0.0
    to_client: float = 0.0
    jitter: float = 0.0


class BlackHole(Fault, frozen=True, kw_only=True):
    """Bytes vanish while the connection stays open.

    A connection that lost bytes is silent in that direction for good, as one whose other end has gone. With `unread`
    they are only held back until the fault is switched off, as TCP would send them again.
    """

    to_server: bool = True
    to_client: bool = True
    unread: bool = False


class Refuse(Fault, frozen=True, kw_only=True):
    """New connections are cut after they said who they are, or refused by the server's error `sqlstate`."""

    sqlstate: str = ""
    probability: float = 1.0


class Loss(Fault, frozen=True, kw_only=True):
    """Statements whose text contains `statement`: the first `skip` are spared, then `times` are hit, each by chance."""

    statement: str = ""
    probability: float = 1.0
    skip: int = 0
    times: int | None = None
    ending: Ending = "close"


class LoseReply(Loss, frozen=True, kw_only=True):
    """The server has executed the statement, and committed it where that is what it does; its reply never arrives."""


class LoseRequest(Loss, frozen=True, kw_only=True):
    """The statement never reaches the server."""


AnyFault = Delay | BlackHole | Refuse | LoseReply | LoseRequest


class Switch:
    """A fault that was switched on; `hits` counts what it did, `passed` the statements it might have hit."""

    def __init__(self, faults: Faults, fault: AnyFault) -> None:
        self.fault = fault
        self.hits = 0
        self.passed = 0
        self._faults = faults

    def off(self) -> None:
        """From now on nothing more goes wrong by it. What it did to connections stays."""
        self._faults.remove(self)


class Faults:
    """The faults that are switched on just now. Chances are drawn from `seed`, in the order of the events."""

    def __init__(self, seed: int = 0) -> None:
        self.injected: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._switches: list[Switch] = []
        self._changed = asyncio.Event()

    def add(self, fault: AnyFault) -> Switch:
        """Switches a fault on."""
        switch = Switch(self, fault)
        self._switches.append(switch)
        self._tell()
        return switch

    def remove(self, switch: Switch) -> None:
        """Switches a fault off, if it is on."""
        if switch in self._switches:
            self._switches.remove(switch)
            self._tell()

    def clear(self) -> None:
        """Switches everything off."""
        self._switches.clear()
        self._tell()

    def refusal(self, application: str) -> Refuse | None:
        """Why a new connection is refused, if it is."""
        for switch in self._matching(application):
            if isinstance(switch.fault, Refuse) and self._happens(switch.fault.probability):
                self._hit(switch)
                return switch.fault
        return None

    def loss(self, application: str, statements: Sequence[str]) -> LoseReply | LoseRequest | None:
        """What is lost of a round trip that executes these statements."""
        for switch in self._matching(application):
            fault = switch.fault
            if not isinstance(fault, LoseReply | LoseRequest):
                continue
            if not any(fault.statement in statement for statement in statements):
                continue
            switch.passed += 1
            if switch.passed <= fault.skip or (fault.times is not None and switch.hits >= fault.times):
                continue
            if self._happens(fault.probability):
                self._hit(switch)
                return fault
        return None

    def delay(self, application: str, direction: Direction) -> float:
        """Seconds to hold back what has just arrived."""
        seconds = 0.0
        for switch in self._matching(application):
            if isinstance(switch.fault, Delay) and (base := getattr(switch.fault, direction)) > 0:
                seconds += base + self._random.uniform(0.0, switch.fault.jitter)
                self._hit(switch)
        return seconds

    def swallows(self, application: str, direction: Direction) -> bool:
        """Whether what has just arrived vanishes."""
        for switch in self._black_holes(application, direction, unread=False):
            self._hit(switch)
            return True
        return False

    async def wait_while_held(self, application: str, direction: Direction) -> None:
        """Waits as long as a black hole keeps bytes of this direction."""
        holes = self._black_holes(application, direction, unread=True)
        if holes:
            self._hit(holes[0])
        while self._black_holes(application, direction, unread=True):
            await self._changed.wait()

    async def wait_while_black(self, application: str, direction: Direction) -> None:
        """Waits as long as any black hole is on in this direction: nobody beyond it hears of an end."""
        while self._black_holes(application, direction, unread=False) or self._black_holes(
            application, direction, unread=True
        ):
            await self._changed.wait()

    def _black_holes(self, application: str, direction: Direction, *, unread: bool) -> list[Switch]:
        return [
            switch
            for switch in self._matching(application)
            if isinstance(switch.fault, BlackHole)
            and switch.fault.unread == unread
            and getattr(switch.fault, direction)
        ]

    def _matching(self, application: str) -> list[Switch]:
        return [switch for switch in self._switches if switch.fault.application in application]

    def _happens(self, probability: float) -> bool:
        return probability >= 1.0 or self._random.random() < probability

    def _hit(self, switch: Switch) -> None:
        switch.hits += 1
        self.injected[type(switch.fault).__name__] += 1

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
