"""What an invariant is given, and what it gives back."""

from __future__ import annotations

import uuid

import msgspec

from tests.soak.history import History
from tests.soak.stories import Lives, Story, stories


class Violation(msgspec.Struct, frozen=True):
    """What was broken, by which job if by one, and why."""

    invariant: str
    why: str
    job_id: uuid.UUID | None = None


class Case(msgspec.Struct):
    """A history with what is derived from it."""

    history: History
    stories: dict[uuid.UUID, Story]
    lives: Lives

    @classmethod
    def of(cls, history: History) -> Case:
        """Derives it all."""
        return cls(history, stories(history), Lives(history))
