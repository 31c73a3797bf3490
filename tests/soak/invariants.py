"""What must hold of a soak's history, whatever went wrong in it.

I1   No job is lost: each accepted id has exactly one row, in one table, and every row was asked for.
I2   All is at rest: every job has ended, and nothing is left behind: no lock, no transaction, no worker, no key.
I3   One outcome: each generation of a job has exactly one terminal event, its last, and the row says the same.
I4   The events of a job are dense: 1 … n, in order of time, and n is the row's `seq`.
I5   Every move from state to state is a legal one, and after a request to cancel only an end may follow.
I6   Attempts, fences and crashes add up: claims less what was refunded, claims, rescues less what was taken back.
I7   Every execution has a claim of its own, and begins while that claim stands.
I8   The outcome is the last claim's own: what its execution wrote down is what the row says, results to the letter.
I9   Executions of one job do not overlap, and none does anything after its claim was taken away.
I10  Submitting is idempotent: a key makes one job, and every answer under it is the same, to the byte.
I11  Cancelled means cancelled, and unique means one at a time.
I12  What is run again, or given back, has a cause: a fault that took its process, or the way to it.
I13  Who follows a job sees each of its events once, in order, to its end; who follows all misses nothing but by a gap.

The functions are pure: a history in, violations out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tests.soak import rows, runs, watching
from tests.soak.case import Case, Violation

Invariant = Callable[[Case], Iterable[Violation]]

INVARIANTS: tuple[Invariant, ...] = (
    rows.no_job_is_lost,
    rows.all_is_at_rest,
    rows.one_outcome,
    rows.events_are_dense,
    rows.moves_are_legal,
    rows.numbers_add_up,
    runs.executions_are_claimed,
    runs.outcomes_are_the_authors,
    runs.executions_do_not_overlap,
    rows.submits_are_idempotent,
    runs.cancelled_and_unique,
    runs.causes,
    watching.watchers_see_it_all,
)
