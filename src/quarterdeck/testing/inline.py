"""run_inline: one attempt of a handler, in the test's own event loop, without a database."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import msgspec

from quarterdeck.deck import HandlerFunction, Quarterdeck
from quarterdeck.domain.handler import Handler, JobContext
from quarterdeck.domain.job import Job, NewJob
from quarterdeck.domain.outcome import AttemptFacts, Outcome, Transition, decide
from quarterdeck.domain.retry import DEFAULT_RETRY, RetryPolicy
from quarterdeck.domain.state import TERMINAL, State
from quarterdeck.engine.attempt import Attempt, Stop
from quarterdeck.engine.stored import planned
from quarterdeck.store.attempts import ClaimedJob
from quarterdeck.testing.checking import Kinds
from quarterdeck.testing.notebook import Notebook
from quarterdeck.testing.noted import Noted, noting
from quarterdeck.testing.ran import Ran

LATEST = 1.0
"""The draw that makes the longest of the delays that jitter allows."""


async def run_inline(
    handler: HandlerFunction,
    args: Mapping[str, Any] | None = None,
    *,
    attempt: int = 1,
    resources: Mapping[str, Any] | None = None,
    results: Mapping[str, Any] | None = None,
    elsewhere: Collection[str] = (),
    cancel_after: float | None = None,
    **options: Any,
) -> Ran:
    """Runs one attempt of a handler as the service would, without a service or a database.

    The arguments and what comes back pass through JSON, the options of a submit and the kind's defaults hold, the time
    limit among them, and the outcome becomes a job in the way it does in the service. Jobs that the handler submits are
    checked and noted, not run.

    `attempt` is which one it is, `resources` are put over the deck's own, `results` say by kind what jobs return that
    the handler waits for (values, or functions of their arguments), `elsewhere` names kinds that only other processes
    have, and after `cancel_after` seconds somebody asks for the job's cancel.

    Raises SubmitError where the service would refuse the submit. What the handler raises is in what is returned.
    """
    if not isinstance(handler, HandlerFunction):
        raise TypeError(f"{handler!r} is no handler: give what @deck.handler() has made of a function")
    deck = handler.deck
    kinds = Kinds(deck.handlers, elsewhere)
    new = kinds.check(handler.kind, args, options)
    notebook = Notebook(new.id)
    noted = Noted(kinds, results or {})
    job = _running(new, attempt)
    begun = _begin(
        kinds[handler.kind], new, job, notebook=notebook, noted=noted, deck=deck, resources=_Resources(deck, resources)
    )
    if cancel_after is not None:
        asyncio.get_running_loop().call_later(cancel_after, begun.stop, Stop.CANCEL)
    outcome = await begun.ended()
    transition = decide(_facts(new, attempt, cancel_requested=begun.cancel_requested), outcome, LATEST)
    return Ran(
        job=_left(job, transition, notebook),
        exception=begun.exception,
        next_run_in=transition.delay,
        progress=notebook.progress_told,
        logs=notebook.lines,
        outputs=notebook.outputs,
        published=notebook.published,
        submitted=noted.jobs,
        abandoned=begun.task is not None and not begun.task.done(),
    )


class _Resources(dict[str, Any]):
    """What handlers share, with words for what only a service opens."""

    def __init__(self, deck: Quarterdeck, given: Mapping[str, Any] | None) -> None:
        super().__init__({**deck.resources, **(given or {})})
        self._opened = frozenset(deck.resource_makers)

    def __missing__(self, name: str) -> Any:
        if name in self._opened:
            raise KeyError(f"{name!r} is opened by the service: give the test one, resources={{{name!r}: …}}")
        raise KeyError(name)


class _Inline(Attempt):
    """An attempt that keeps its handler's exception, and that can be waited for."""

    __slots__ = ("_over", "exception", "outcome")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, report=_keep, **kwargs)
        self.exception: BaseException | None = None
        self.outcome: Outcome | None = None
        self._over = asyncio.Event()

    def keep(self, outcome: Outcome | None) -> None:
        """The end."""
        self.outcome = outcome
        self._over.set()

    async def ended(self) -> Outcome:
        """Waits for the outcome. Where the waiting is cancelled, the handler is told to stop, and then waited for."""
        try:
            await self._over.wait()
        except asyncio.CancelledError:
            self.stop(Stop.SHUTDOWN)
            await self._over.wait()
            raise
        assert self.outcome is not None, "only a lost lease has none"  # noqa: S101 - for the type checker
        return self.outcome

    def _record(self, error: BaseException) -> str:
        self.exception = error
        return super()._record(error)


def _keep(attempt: Attempt, outcome: Outcome | None) -> None:
    if isinstance(attempt, _Inline):
        attempt.keep(outcome)


def _begin(
    handler: Handler,
    new: NewJob,
    job: Job,
    *,
    notebook: Notebook,
    noted: Noted,
    deck: Quarterdeck,
    resources: Mapping[str, Any],
) -> _Inline:
    now: Callable[[], dt.datetime] = partial(dt.datetime.now, dt.UTC)
    kwargs = handler.bind(new.args)
    context = None
    if handler.wants_context:
        deadline = None if job.timeout is None else now() + dt.timedelta(seconds=job.timeout)
        submit = partial(noted.submit_by_name, parent=job.id, tenant=job.tenant)
        context = JobContext(job, deadline, resources, submit, recording=notebook, publish=notebook.publish)
        kwargs["ctx"] = context
    claimed = ClaimedJob(
        id=job.id,
        fence=1,
        kind=job.kind,
        queue=job.queue,
        args=job.args,
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        timeout=job.timeout,
        retry=new.retry,
        tenant=job.tenant,
        run_at=job.run_at,
        job=lambda: job,
    )
    begun = _Inline(claimed, handler, kwargs, context=context, now=now)
    with noting(deck, noted):
        begun.begin()
    return begun


def _running(new: NewJob, attempt: int) -> Job:
    """The job as the handler sees it."""
    now = dt.datetime.now(dt.UTC)
    job = planned(new, now)
    if not 1 <= attempt <= job.max_attempts:
        raise ValueError(f"attempt={attempt}: the job is tried {job.max_attempts} times, see max_attempts")
    return msgspec.structs.replace(job, state=State.RUNNING, attempt=attempt, attempted_at=now, worker="inline", seq=2)


def _facts(new: NewJob, attempt: int, *, cancel_requested: bool) -> AttemptFacts:
    retry = DEFAULT_RETRY if new.retry is None else msgspec.convert(new.retry, RetryPolicy)
    return AttemptFacts(attempt, new.max_attempts, retry, cancel_requested)


def _left(job: Job, transition: Transition, notebook: Notebook) -> Job:
    """The job as the end of the attempt leaves it."""
    now = dt.datetime.now(dt.UTC)
    told = len(notebook.progress_told) + len(notebook.lines) + len(notebook.outputs)
    ended = transition.state in TERMINAL
    return msgspec.structs.replace(
        job,
        state=transition.state,
        state_reason=transition.reason,
        state_detail=transition.detail,
        attempt=job.attempt - int(transition.refund),
        run_at=job.run_at if transition.delay is None else now + dt.timedelta(seconds=transition.delay),
        finalized_at=now if ended else None,
        progress=msgspec.Raw(msgspec.json.encode(notebook.progress_told[-1])) if notebook.progress_told else None,
        result=None if transition.result is None else msgspec.Raw(transition.result.encode()),
        errors=[] if transition.error is None else [msgspec.Raw(transition.error.encode())],
        worker=None,
        seq=job.seq + told + 1,
    )
