"""One attempt: the handler's task, its time limit, its stop, its outcome."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
import time
import traceback
from collections.abc import Callable
from enum import Enum
from typing import Any

from quarterdeck.clock import rfc3339
from quarterdeck.domain.errors import Rejection, ResultError, RetryLater
from quarterdeck.domain.handler import Handler, JobContext
from quarterdeck.domain.jsonvalue import encode_result
from quarterdeck.domain.outcome import Cancel, Completed, Failed, Interrupted, Outcome, Rejected, Snooze, TimedOut
from quarterdeck.engine.recording import Recording
from quarterdeck.store.attempts import ClaimedJob

ABANDON_AFTER = 5.0
"""Seconds a handler has to end after it was told to stop; then it is abandoned and its slot comes back."""

MAX_MESSAGE = 4096
MAX_TRACEBACK = 16384
MAX_SNOOZE = 10 * 365 * 86400.0

_SURROGATES = re.compile("[\ud800-\udfff]")


class Stop(Enum):
    """Why an attempt was told to stop."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    SHUTDOWN = "shutdown"
    LEASE_LOST = "lease_lost"


class Attempt:
    """Runs a handler in a task of its own and reports exactly one outcome, or none where the lease is lost."""

    __slots__ = (
        "_abandon",
        "_began",
        "_entered",
        "_handler",
        "_kwargs",
        "_now",
        "_report",
        "_stop",
        "_timer",
        "context",
        "job",
        "recording",
        "task",
    )

    def __init__(
        self,
        job: ClaimedJob,
        handler: Handler,
        kwargs: dict[str, Any],
        *,
        context: JobContext | None,
        now: Callable[[], dt.datetime],
        report: Callable[[Attempt, Outcome | None], None],
        recording: Recording | None = None,
    ) -> None:
        self.job = job
        self.context = context
        self.recording = recording
        self.task: asyncio.Task[None] | None = None
        self._began = 0.0
        self._entered = False
        self._handler = handler
        self._kwargs = kwargs
        self._now = now
        self._report: Callable[[Attempt, Outcome | None], None] | None = report
        self._stop: Stop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._abandon: asyncio.TimerHandle | None = None

    @property
    def cancel_requested(self) -> bool:
        """Whether it was told to stop because somebody asked for the cancel."""
        return self._stop is Stop.CANCEL

    @property
    def ran(self) -> float:
        """For how many seconds the handler has run."""
        return time.monotonic() - self._began

    def begin(self) -> None:
        """Starts the handler; its time limit runs from here."""
        loop = asyncio.get_running_loop()
        self._began = time.monotonic()
        self.task = loop.create_task(self._run())
        if self.job.timeout is not None:
            self._timer = loop.call_later(self.job.timeout, self.stop, Stop.TIMEOUT)

    def stop(self, why: Stop) -> None:
        """Cancels the handler; the first reason stands, except that a lost lease silences everything."""
        if self._report is None:
            return
        if why is Stop.CANCEL and self.context is not None:
            self.context._cancelled = True  # noqa: SLF001 - the engine's side of the context
        first = self._stop is None
        if first or why is Stop.LEASE_LOST:
            self._stop = why
        if first and self.task is not None:
            self.task.cancel()
            loop = asyncio.get_running_loop()
            if self._entered:
                self._abandon = loop.call_later(ABANDON_AFTER, self._give_up)
            else:  # a task that is cancelled before its first step never runs, and reports nothing
                loop.call_soon(lambda: self._end(self._stopped()))

    async def _run(self) -> None:
        self._entered = True
        try:
            outcome = self._read(await self._handler.function(**self._kwargs))
        except asyncio.CancelledError as error:
            outcome = self._stopped() or Failed(self._record(error))
        except BaseException as error:  # noqa: BLE001 - the handler boundary: SystemExit included, nothing may escape
            outcome = self._raised(error)
        self._end(outcome)

    def _read(self, value: object) -> Outcome:
        match value:
            case Snooze(seconds):
                if 0 <= seconds <= MAX_SNOOZE:
                    return value
                raise ResultError(f"cannot snooze for {seconds!r:.80} seconds")
            case Cancel(why):
                return Cancel(_storable(str(why)[:MAX_MESSAGE]))
        return Completed(encode_result(value))

    def _raised(self, error: BaseException) -> Outcome:
        record = self._record(error)
        match self._stop:
            case Stop.TIMEOUT:
                return TimedOut(record)
            case Stop.SHUTDOWN | Stop.LEASE_LOST:
                return Interrupted()
        match error:
            case Rejection():
                return Rejected(record, _storable(str(error)[:MAX_MESSAGE]))
            case RetryLater(seconds=seconds) if seconds > 0:
                return Failed(record, not_before=min(seconds, MAX_SNOOZE))
        return Failed(record)

    def _stopped(self) -> Outcome | None:
        match self._stop:
            case Stop.TIMEOUT:
                limit = f"no result within {self.job.timeout:g} s"
                return TimedOut(_encode(self.job.attempt, self._now(), "TimeoutError", limit, None))
            case Stop.CANCEL | Stop.SHUTDOWN | Stop.LEASE_LOST:
                return Interrupted()
        return None

    def _give_up(self) -> None:
        self._end(self._stopped(), abandoned=True)

    def _end(self, outcome: Outcome | None, *, abandoned: bool = False) -> None:
        report, self._report = self._report, None
        for timer in (self._timer, self._abandon):
            if timer is not None:
                timer.cancel()
        if report is not None:
            if not abandoned:
                self.task = None
            report(self, None if self._stop is Stop.LEASE_LOST else outcome)

    def _record(self, error: BaseException) -> str:
        return error_record(self.job.attempt, self._now(), error)


def error_record(attempt: int, at: dt.datetime, error: BaseException) -> str:
    """The JSON text kept of a failed attempt: cut to size, storable whatever the exception contains."""
    try:
        message = str(error)
    except BaseException as second:  # noqa: BLE001 - a __str__ that raises
        message = f"(its message could not be read: {type(second).__name__})"
    # Without our own frame: the reader wants theirs.
    below = error.__traceback__.tb_next if error.__traceback__ is not None else None
    try:
        lines = "".join(traceback.format_exception(type(error), error, below))
    except BaseException:  # noqa: BLE001 - a chain that cannot be formatted
        lines = ""
    return _encode(attempt, at, type(error).__name__, message, lines or None)


def _encode(attempt: int, at: dt.datetime, kind: str, message: str, lines: str | None) -> str:
    if lines is not None and len(lines) > MAX_TRACEBACK:
        lines = "…" + lines[-MAX_TRACEBACK:]
    record = {
        "attempt": attempt,
        "at": rfc3339(at),
        "type": _readable(kind[:200]),
        "message": _readable(message[:MAX_MESSAGE]),
        "traceback": lines and _readable(lines),
    }
    return json.dumps(record)


def _readable(text: str) -> str:
    """Text without lone surrogates, which many JSON readers refuse."""
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


def _storable(text: str) -> str:
    """Text without what a text column cannot hold: NUL and lone surrogates."""
    return _readable(text).replace("\0", "\N{REPLACEMENT CHARACTER}")
