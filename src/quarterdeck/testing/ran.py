"""Ran: what came of an attempt that ran inline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from quarterdeck.deck import HandlerFunction
from quarterdeck.domain.job import Job, JobError, Progress
from quarterdeck.domain.jsonvalue import decode_stored
from quarterdeck.domain.state import State
from quarterdeck.testing.submissions import check_not_submitted, check_submitted


class Line(msgspec.Struct, frozen=True):
    """A log line that a handler told."""

    level: str
    message: str


class Published(msgspec.Struct, frozen=True):
    """A message that a handler published."""

    topic: str
    data: Any


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an attempt.

    `job` is the job as the service would have left it, `exception` what the handler raised, `next_run_in` the seconds
    until a job that failed or snoozed runs again: where the backoff has jitter, at the latest. The rest is what the
    handler told, published and submitted, in order. `abandoned` says that it would not stop when told to.
    """

    job: Job
    exception: BaseException | None = None
    next_run_in: float | None = None
    progress: list[Progress] = []
    logs: list[Line] = []
    outputs: list[Any] = []
    published: list[Published] = []
    submitted: list[Job] = []
    abandoned: bool = False

    @property
    def state(self) -> State:
        """The state in which the job would be now."""
        return self.job.state

    @property
    def result(self) -> Any:
        """What the handler returned, as it comes back from JSON.

        Raises AssertionError, with the handler's exception as its cause, where the attempt did not complete the job.
        """
        if self.job.state is not State.COMPLETED:
            raise AssertionError(f"the attempt did not complete the job: {self.outcome}") from self.exception
        return None if self.job.result is None else decode_stored(bytes(self.job.result))

    @property
    def error(self) -> JobError | None:
        """The record that is kept of a failed attempt."""
        if not self.job.errors:
            return None
        return msgspec.json.decode(bytes(self.job.errors[-1]), type=JobError)

    @property
    def outcome(self) -> str:
        """What came of it, in words."""
        words = f"it is {self.job.state.value}"
        if self.job.state_reason is not None:
            words += f" ({self.job.state_reason.value})"
        if self.next_run_in is not None:
            words += f" and runs again in {self.next_run_in:g} s"
        if self.error is not None:
            return f"{words}: {self.error.type}: {self.error.message}"
        return words if self.job.state_detail is None else f"{words}: {self.job.state_detail}"

    def assert_submitted(
        self, kind: HandlerFunction | str, args: Mapping[str, Any] | None = None, **fields: Any
    ) -> list[Job]:
        """The jobs that the handler submitted and that fit; see Workbench.assert_submitted. Raises AssertionError."""
        return check_submitted(self.submitted, kind, args, fields)

    def assert_not_submitted(
        self, kind: HandlerFunction | str, args: Mapping[str, Any] | None = None, **fields: Any
    ) -> None:
        """Raises AssertionError where the handler submitted a job that fits."""
        check_not_submitted(self.submitted, kind, args, fields)
