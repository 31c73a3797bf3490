"""How an attempt ended, and what that makes of its job: `decide`."""

import msgspec

from quarterdeck.domain.retry import RetryPolicy
from quarterdeck.domain.state import Reason, State


class Snooze(msgspec.Struct, frozen=True):
    """Returned by a handler: run the job again after `seconds`, without using up an attempt."""

    seconds: float


class Cancel(msgspec.Struct, frozen=True):
    """Returned by a handler: end the job as cancelled, for the reason given in words."""

    why: str = ""


class Completed(msgspec.Struct, frozen=True):
    """The handler returned a value: JSON text."""

    result: str


class Failed(msgspec.Struct, frozen=True):
    """The handler raised; `error` is the JSON text of the record kept with the job.

    The next attempt begins in `not_before` seconds or later, whatever the retry policy says.
    """

    error: str
    not_before: float = 0.0


class TimedOut(msgspec.Struct, frozen=True):
    """The attempt ran longer than the job's `timeout`."""

    error: str


class Rejected(msgspec.Struct, frozen=True):
    """No retry can help: the arguments do not fit the handler, or it said so itself."""

    error: str
    detail: str


class Interrupted(msgspec.Struct, frozen=True):
    """Ended by our shutdown or never begun here: not the job's fault."""


Outcome = Completed | Failed | TimedOut | Rejected | Interrupted | Snooze | Cancel


class AttemptFacts(msgspec.Struct, frozen=True):
    """What `decide` needs to know of the attempt."""

    attempt: int
    max_attempts: int
    retry: RetryPolicy
    cancel_requested: bool = False


class Transition(msgspec.Struct, frozen=True):
    """What is written for an ended attempt. Built by the named constructors only.

    `delay` is seconds from the write to the next run (None: the due time stays); `refund` gives the attempt back;
    `result` and `error` are JSON text.
    """

    state: State
    event: str
    reason: Reason | None = None
    detail: str | None = None
    delay: float | None = None
    refund: bool = False
    result: str | None = None
    error: str | None = None

    @classmethod
    def complete(cls, result: str) -> "Transition":
        """The job is done."""
        return cls(State.COMPLETED, "completed", result=result)

    @classmethod
    def cancel(cls, reason: Reason | None, detail: str | None = None, error: str | None = None) -> "Transition":
        """The job ends as cancelled."""
        return cls(State.CANCELLED, "cancelled", reason=reason, detail=detail, error=error)

    @classmethod
    def discard(cls, reason: Reason, error: str | None, detail: str | None = None) -> "Transition":
        """The job ends without a result."""
        return cls(State.DISCARDED, "discarded", reason=reason, detail=detail, error=error)

    @classmethod
    def retry(cls, delay: float, reason: Reason | None, error: str) -> "Transition":
        """The job waits for its next attempt."""
        return cls(State.RETRYABLE, "retryable", reason=reason, delay=delay, error=error)

    @classmethod
    def snooze(cls, seconds: float) -> "Transition":
        """The job waits until it is due again."""
        return cls(State.SCHEDULED, "snoozed", reason=Reason.SNOOZED, delay=seconds, refund=True)

    @classmethod
    def interrupt(cls) -> "Transition":
        """The job is available again at once."""
        return cls(State.AVAILABLE, "interrupted", reason=Reason.INTERRUPTED, refund=True)


def decide(facts: AttemptFacts, outcome: Outcome, draw: float) -> Transition:  # noqa: PLR0911 - a table of cases reads best as one
    """What an ended attempt makes of its job; `draw` is a random number in [0, 1) for the jitter.

    A requested cancel wins over everything but a returned result (contract, section 3).
    """
    match outcome:
        case Completed(result):
            return Transition.complete(result)
        case Cancel(why):
            reason = Reason.CANCEL_REQUESTED if facts.cancel_requested else None
            return Transition.cancel(reason, detail=why or None)
    if facts.cancel_requested:
        return Transition.cancel(Reason.CANCEL_REQUESTED, error=getattr(outcome, "error", None))
    match outcome:
        case Snooze(seconds):
            return Transition.snooze(seconds)
        case Interrupted():
            return Transition.interrupt()
        case Rejected(error, detail):
            return Transition.discard(Reason.REJECTED, error, detail)
    timed_out = Reason.TIMEOUT if isinstance(outcome, TimedOut) else None
    if facts.attempt >= facts.max_attempts:
        return Transition.discard(timed_out or Reason.ATTEMPTS_EXHAUSTED, outcome.error)
    delay = facts.retry.delay(facts.attempt, draw)
    if isinstance(outcome, Failed):
        delay = max(delay, outcome.not_before)
    return Transition.retry(delay, timed_out, outcome.error)
