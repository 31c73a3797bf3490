"""Which of the jobs that were submitted fit what a test expects, and words for when none does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from quarterdeck.deck import HandlerFunction
from quarterdeck.domain.duration import parse_duration
from quarterdeck.domain.job import Job
from quarterdeck.domain.state import State

SHOWN = 10
"""How many of the jobs that do not fit a message tells of."""

_SPECIAL = ("count", "delay")
_DURATIONS = ("delay", "timeout")
_MISSING = object()


def kind_of(kind: HandlerFunction | str) -> str:
    """The kind's name."""
    return kind if isinstance(kind, str) else kind.kind


def check_submitted(
    jobs: Sequence[Job], kind: HandlerFunction | str, args: Mapping[str, Any] | None, fields: Mapping[str, Any]
) -> list[Job]:
    """The jobs that fit. Raises AssertionError where there are none, or not `count` of them."""
    __tracebackhide__ = True
    wanted = _wanted(kind, args, fields)
    fitting = [job for job in jobs if not any(_misfits(job, wanted))]
    count = fields.get("count")
    if count is None and not fitting:
        raise AssertionError(f"no job was submitted with {_words(wanted)}{_told(jobs, wanted)}")
    if count is not None and len(fitting) != count:
        were = "was" if count == 1 else "were"
        raise AssertionError(
            f"{_jobs(count)} {were} to be submitted with {_words(wanted)}, not {len(fitting)}{_told(jobs, wanted)}"
        )
    return fitting


def check_not_submitted(
    jobs: Sequence[Job], kind: HandlerFunction | str, args: Mapping[str, Any] | None, fields: Mapping[str, Any]
) -> None:
    """Raises AssertionError where a job fits."""
    __tracebackhide__ = True
    wanted = _wanted(kind, args, fields)
    fitting = [job for job in jobs if not any(_misfits(job, wanted))]
    if fitting:
        lines = "".join(f"\n  {_line(job)}" for job in fitting[:SHOWN])
        raise AssertionError(f"no job was to be submitted with {_words(wanted)}, and there are {len(fitting)}:{lines}")


def _wanted(kind: HandlerFunction | str, args: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [name for name in fields if name not in Job.__struct_fields__ and name not in _SPECIAL]
    if unknown:
        raise TypeError(f"a job has no field {unknown[0]!r}; it has {', '.join(Job.__struct_fields__)}")
    wanted: dict[str, Any] = {"kind": kind_of(kind)}
    if args is not None:
        wanted["args"] = dict(args)
    return wanted | {name: _plainly(name, value) for name, value in fields.items() if name != "count"}


def _plainly(name: str, value: Any) -> Any:
    """Durations in seconds: a test may say them as a submit does."""
    if name not in _DURATIONS or value is None or isinstance(value, int | float):
        return value
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _misfits(job: Job, wanted: Mapping[str, Any]) -> Iterator[str]:
    """Where a job differs from what is wanted, in words; the arguments and fields that are not named do not count."""
    for name, value in wanted.items():
        if name == "args":
            yield from _misfitting_args(job.args, value)
        elif name == "delay":
            delay = (job.run_at - job.created_at).total_seconds()
            if abs(delay - value) >= 1:
                yield f"delay is {delay:.0f} s, not {value:g} s"
        elif (found := getattr(job, name)) != value:
            yield f"{name} is {_plain(found)!r}, not {value!r}"


def _misfitting_args(args: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for name, value in wanted.items():
        found = args.get(name, _MISSING)
        if found is _MISSING:
            yield f"it has no argument {name}"
        elif found != value:
            yield f"{name} is {found!r}, not {value!r}"


def _told(jobs: Sequence[Job], wanted: Mapping[str, Any]) -> str:
    """The jobs that there are, those of the wanted kind first, each with where it differs."""
    if not jobs:
        return ": nothing was submitted"
    ranked = sorted(jobs, key=lambda job: job.kind != wanted["kind"])
    lines = []
    for job in ranked[:SHOWN]:
        misfits = ", ".join(_misfits(job, wanted)) if job.kind == wanted["kind"] else "of another kind"
        lines.append(f"\n  {_line(job)}: {misfits or 'fits'}")
    more = f"\n  and {len(jobs) - SHOWN} more" if len(jobs) > SHOWN else ""
    return f"; there {'is' if len(jobs) == 1 else 'are'} {_jobs(len(jobs))}:{''.join(lines)}{more}"


def _words(wanted: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_plain(value)!r}" for name, value in wanted.items())


def _line(job: Job) -> str:
    args = ", ".join(f"{name}={value!r:.60}" for name, value in job.args.items())
    return f"{job.kind}({args}) in queue {job.queue!r}, {job.state.value}"


def _jobs(count: int) -> str:
    return f"{count} job" if count == 1 else f"{count} jobs"


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, State) else value
