"""Breaker: leaves a server alone that fails, and tries it again now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

FAILURES = 3
"""Failures one after the other that open it. Operations that ran at the same time fail together, and count as one."""
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 2.0
"""Seconds without a try; they double with each try that fails."""


class Try(NamedTuple):
    """An operation that was begun: when, and whether it is to show that the server works again."""

    began: float
    trial: bool


class Breaker:
    """One server's. Closed, everything is tried; open, one operation at a time, after a pause."""

    def __init__(self, server: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._clock = clock
        self._failures = 0
        self._failed_at = float("-inf")
        self._pause = FIRST_PAUSE
        self._trying = False
        self.open = False
        """Whether the server is left alone."""

    @property
    def refuses(self) -> bool:
        """Whether an operation that comes now is not tried."""
        return self.open and (self._trying or self._clock() < self._failed_at + self._pause)

    def enter(self) -> Try | None:
        """Begins an operation; None where it is not to be tried. Its answer belongs to `leave`, which must follow."""
        if self.refuses:
            return None
        self._trying = self.open
        return Try(self._clock(), self.open)

    def leave(self, operation: Try, *, worked: bool | None, why: str = "") -> None:
        """Ends an operation. `worked` is None where its end says nothing about the server."""
        if operation.trial:
            self._trying = False
        if worked:
            self._failures = 0
            if operation.trial:
                self.open, self._pause = False, FIRST_PAUSE
                log.info("cache.server_is_back", server=self._server)
        elif worked is not None and operation.began >= self._failed_at:
            self._failed_at = self._clock()
            self._failures += 1
            if operation.trial:
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
            elif self._failures >= FAILURES and not self.open:
                self.open = True
                log.warning("cache.server_is_left_alone", server=self._server, error=why)
