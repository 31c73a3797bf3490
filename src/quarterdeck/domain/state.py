"""The states of a job, the reasons beside them, and the legal moves between states."""

from enum import StrEnum


class State(StrEnum):
    """Where a job stands (contract, section 3)."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    AVAILABLE = "available"
    RUNNING = "running"
    RETRYABLE = "retryable"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"


class Reason(StrEnum):
    """Why a job is in its state, where the state alone does not say it."""

    TIMEOUT = "timeout"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    CRASHED = "crashed"
    INTERRUPTED = "interrupted"
    SNOOZED = "snoozed"
    EXPIRED = "expired"
    REJECTED = "rejected"
    CANCEL_REQUESTED = "cancel_requested"
    DEPENDENCY_FAILED = "dependency_failed"
    UNROUTABLE = "unroutable"


TERMINAL = frozenset({State.COMPLETED, State.CANCELLED, State.DISCARDED})
WAITING = frozenset({State.PENDING, State.SCHEDULED, State.AVAILABLE, State.RETRYABLE})

MOVES: dict[State, frozenset[State]] = {
    State.PENDING: frozenset({State.SCHEDULED, State.AVAILABLE, State.CANCELLED, State.COMPLETED, State.DISCARDED}),
    State.SCHEDULED: frozenset({State.AVAILABLE, State.CANCELLED, State.DISCARDED}),
    State.AVAILABLE: frozenset({State.RUNNING, State.SCHEDULED, State.CANCELLED, State.DISCARDED}),
    State.RUNNING: frozenset(
        {State.COMPLETED, State.RETRYABLE, State.SCHEDULED, State.AVAILABLE, State.CANCELLED, State.DISCARDED}
    ),
    State.RETRYABLE: frozenset({State.AVAILABLE, State.CANCELLED}),
    # Retrying by hand: a new generation of the same job.
    State.COMPLETED: frozenset({State.AVAILABLE}),
    State.CANCELLED: frozenset({State.AVAILABLE}),
    State.DISCARDED: frozenset({State.AVAILABLE}),
}
"""Every legal move. A job never leaves a terminal state by itself."""
