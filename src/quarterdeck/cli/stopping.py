"""Stopping: signals, and the deadline by which the process is over whatever hangs in it."""

import asyncio
import contextlib
import contextvars
import os
import signal
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from types import FrameType

from quarterdeck.cli import exits

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOP_MARGIN = 9.0
"""Seconds after the grace period by which the process is over: cancelled handlers, last writes, the embedded server."""
EXIT_MARGIN = 2.0
"""Seconds for threads to end once everything else has."""


class Watchdog:
    """Ends the process at a deadline: from a thread of its own, since the event loop may be what hangs.

    The queue is a SimpleQueue, and the thread there from the start, because signal handlers give the orders: nothing
    else may be done safely between any two instructions of the code that they interrupt.
    """

    def __init__(self) -> None:
        self._orders: SimpleQueue[tuple[float, int]] = SimpleQueue()
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def arm(self, seconds: float, exit_code: int) -> None:
        """Ends the process after `seconds`, or when an earlier order says so, with the code given last."""
        self._orders.put((monotonic() + seconds, exit_code))

    def _run(self) -> None:
        deadline, code = self._orders.get()
        while True:
            try:
                later, code = self._orders.get(timeout=max(0.0, deadline - monotonic()))
            except Empty:
                break
            deadline = min(deadline, later)
        from quarterdeck.telemetry.log import flush, get_logger  # noqa: PLC0415 - slow, and signals are caught before

        get_logger(__name__).critical("service.forced_to_exit", exit_code=code)
        flush(0.5)
        os._exit(code)


class Stopping:
    """Counts the signals that ask for a stop: the first one begins it, a second one hurries it.

    They are caught by handlers of Python's own, not by the event loop's: those would wait for the loop, and a handler
    that blocks it would put off the watchdog too.
    """

    def __init__(self) -> None:
        """From now on signals are caught; until `attach` they end the process at once, with exit code 0."""
        self._margin = self._limit = STOP_MARGIN
        self._watchdog = Watchdog()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tell: Callable[[int], None] = lambda _count: None
        self._context = contextvars.copy_context()
        self._count = 0
        self._asked = 0
        for number in SIGNALS:
            signal.signal(number, self._receive)

    def attach(self, grace: float, tell: Callable[[int], None], margin: float = STOP_MARGIN) -> None:
        """Calls `tell` in the running loop with the number of signals so far, at each of them.

        `grace` is the seconds that running jobs get; the process is over at the latest `margin` seconds after them.
        """
        self._margin, self._limit = margin, grace + margin
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        if self._asked:
            self._pass_on(self._asked)

    def ask(self, count: int) -> None:
        """Stops as by that many signals, from whatever thread; a signal that comes as well does not add to them.

        Before `attach` that waits for it.
        """
        self._asked = count
        self._pass_on(count)

    def begin(self, exit_code: int) -> None:
        """Bounds a stop that no signal asked for."""
        self._watchdog.arm(self._limit, exit_code)

    def finish(self, exit_code: int) -> None:
        """Everything has stopped: what still hangs in threads is not waited for long."""
        self._watchdog.arm(EXIT_MARGIN, exit_code)

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if self._loop is None:
            raise SystemExit(exits.DONE)
        self._pass_on(self._count)

    def _pass_on(self, count: int) -> None:
        self._watchdog.arm(self._limit if count == 1 else self._margin, exits.DONE)
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(self._tell, count, context=self._context)
