"""A job's story: its row, its claims by the timeline and its executions by the ledger, side by side."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator

import msgspec

from tests.soak.history import MILLISECOND, Entry, Fault, History, Line, Process, Row

CLOSING = frozenset(("completed", "cancelled", "discarded", "retryable", "snoozed", "interrupted", "rescued"))
"""Events by which a claim is over."""
TAKEN_AWAY = frozenset(("rescued", "interrupted"))
"""Events by which a claim is over without an outcome: the job runs again."""
FROZEN = 100 * MILLISECOND
"""After a process goes on, the code in which it was frozen has as long to its next await."""
FACTS = 40
"""Lines of the ledger shown of one job, at most."""


class Execution(msgspec.Struct):
    """One run of a handler, as it wrote it down itself."""

    job_id: uuid.UUID
    seq: int
    pid: int
    lines: list[Line]

    @property
    def began_at(self) -> int:
        """When it said that it begins."""
        return self.lines[0].at

    @property
    def last(self) -> Line:
        """The last that it wrote."""
        return self.lines[-1]

    @property
    def closed(self) -> bool:
        """Whether it said how it ended."""
        return self.last.what not in ("start", "step")


class Claim(msgspec.Struct):
    """A `started` in the timeline, the event by which it was over, and what was run under it."""

    number: int
    """The fence: the how-manieth claim of the job it is."""
    generation: int
    started: Entry
    closing: Entry | None
    executions: list[Execution]

    @property
    def execution(self) -> Execution | None:
        """What was run under it, if anything was."""
        return self.executions[0] if self.executions else None

    @property
    def taken_away(self) -> bool:
        """Whether it was over without an outcome."""
        return self.closing is not None and self.closing.event in TAKEN_AWAY


class Story(msgspec.Struct):
    """All that is known of one job."""

    row: Row
    claims: list[Claim]
    executions: list[Execution]
    unclaimed: list[Execution]
    """Executions that no claim allowed."""

    @property
    def ended_by_rescue(self) -> int:
        """How often in this generation a rescue ended the job: 0 or 1, where the row is sound."""
        entries = generations(self.row)[-1]
        rescued = sum(entry.event == "rescued" for entry in entries)
        forgiven = sum(entry.event == "updated" and "crashes" in entry.fields for entry in entries)
        return self.row.crashes - (rescued - forgiven)

    def facts(self, history: History) -> list[str]:
        """The timeline and the ledger, in one order of time, in seconds since the soak began."""
        told = [
            (history.moment(entry.at_ms), f"  {entry.seq:3} {entry.event} {entry.fields or ''}")
            for entry in self.row.timeline
        ]
        lines = [line for execution in (*self.executions, *self.unclaimed) for line in execution.lines]
        told += [
            (line.at, f"      {line.what} of claim {line.seq}, pid {line.pid} {line.result or ''}")
            for line in _shortened(lines)
        ]
        told.sort(key=lambda fact: fact[0])
        row = self.row
        head = (
            f"{row.kind} {row.id} in {row.place}: {row.state} {row.reason or ''} attempt {row.attempt} of"
            f" {row.max_attempts}, generation {row.generation}, crashes {row.crashes}, fence {row.fence},"
            f" seq {row.seq}, result {row.result}"
        )
        return [head, *(f"{(at - history.began_at) / 1e9:9.3f} {text.rstrip()}" for at, text in told)]


def generations(row: Row) -> list[list[Entry]]:
    """The timeline, cut where the job was run again by hand."""
    found: list[list[Entry]] = [[]]
    for entry in row.timeline:
        if entry.event == "retried":
            found.append([])
        found[-1].append(entry)
    return found


def stories(history: History) -> dict[uuid.UUID, Story]:
    """The story of each job that has a row; of two rows of one job, one."""
    executions = executions_of(history.lines)
    return {row.id: _story(row, executions.get(row.id, [])) for row in history.rows}


def executions_of(lines: list[Line]) -> dict[uuid.UUID, list[Execution]]:
    """Executions by job, in order of time. A second start under the same claim is a second execution."""
    found: defaultdict[uuid.UUID, list[Execution]] = defaultdict(list)
    present: dict[tuple[uuid.UUID, int, int], Execution] = {}
    for line in sorted(lines, key=lambda line: line.at):
        key = (line.job_id, line.seq, line.pid)
        if line.what == "start" or key not in present:
            present[key] = Execution(line.job_id, line.seq, line.pid, [])
            found[line.job_id].append(present[key])
        present[key].lines.append(line)
    return found


def _story(row: Row, executions: list[Execution]) -> Story:
    claims = list(_claims(row))
    by_seq = {claim.started.seq: claim for claim in claims}
    unclaimed = []
    for execution in executions:
        claim = by_seq.get(execution.seq)
        if claim is None:
            unclaimed.append(execution)
        else:
            claim.executions.append(execution)
    return Story(row, claims, executions, unclaimed)


def _claims(row: Row) -> Iterator[Claim]:
    number, generation = 0, 1
    present: Claim | None = None
    for entry in row.timeline:
        if entry.event == "retried":
            generation += 1
        elif entry.event == "started":
            if present is not None:
                yield present
            number += 1
            present = Claim(number, generation, entry, None, [])
        elif entry.event in CLOSING and present is not None:
            present.closing = entry
            yield present
            present = None
    if present is not None:
        yield present


def _shortened(lines: list[Line]) -> list[Line]:
    """Without the steps in the middle, where there are many."""
    if len(lines) <= FACTS:
        return lines
    return [line for line in lines if line.what != "step"][:FACTS] + [line for line in lines if line.what == "step"][
        -5:
    ]


class Lives:
    """When the processes ran, stood still and ended."""

    def __init__(self, history: History) -> None:
        self._ends: dict[int, Process] = {life.pid: life for life in history.processes}
        self._faults: defaultdict[int, list[Fault]] = defaultdict(list)
        for fault in history.faults:
            if fault.pid is not None:
                self._faults[fault.pid].append(fault)

    def faults(self, pid: int) -> list[Fault]:
        """What was done to a process."""
        return self._faults[pid]

    def ended_at(self, pid: int) -> int | None:
        """When a process was over for sure; None where it never was, or is not known."""
        life = self._ends.get(pid)
        return None if life is None else life.ended_at

    def active_until(self, execution: Execution) -> int | None:
        """Until when an execution can have done anything; None where nothing says so.

        To its last line; to the end of its process, where it never came to one. A process that stands still does
        nothing. Where the first thing that a handler hears afterwards is that it has to stop, it did nothing since. The
        code between two awaits in which it was frozen is no news either: it ends at once, and is that one step.
        """
        last = execution.last
        if not execution.closed:
            return self.ended_at(execution.pid)
        for fault in self._faults[execution.pid]:
            if fault.name == "stop" and execution.began_at <= fault.began_at <= last.at:
                since = [line for line in execution.lines if line.at > fault.began_at and line.what != "stopped"]
                if all(line.at <= fault.ended_at + FROZEN for line in since) and len(since) <= 1:
                    return fault.began_at
        return last.at
