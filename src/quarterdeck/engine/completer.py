"""Completer: writes the ends of attempts in groups, each under its fence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from quarterdeck.clock import DatabaseClock
from quarterdeck.domain.job import submitted_at
from quarterdeck.domain.jsonvalue import encode_result
from quarterdeck.domain.outcome import Transition
from quarterdeck.domain.state import TERMINAL, Reason, State
from quarterdeck.engine.holdings import Holdings
from quarterdeck.engine.meter import Meter
from quarterdeck.engine.tasks import Backoff
from quarterdeck.store import pool
from quarterdeck.store.attempts import AttemptStore, Ended, Written
from quarterdeck.store.upkeep import UpkeepStore
from quarterdeck.telemetry.log import get_logger

log = get_logger(__name__)

T = TypeVar("T")

MAX_GROUP = 250
REFUSED = "the result cannot be stored"

Write = Callable[[Sequence[Ended]], Awaitable[list[Written]]]


class Completer:
    """Takes ends into its finished queue (`asyncio.Queue`) and commits them, several together, in the order they came.

    A write whose reply is lost is repeated: it changes nothing the second time, and then the row tells whose end it
    carries. It gives up on a job only when the lease that covers it is lost.
    """

    def __init__(
        self,
        attempts: AttemptStore,
        upkeep: UpkeepStore,
        holdings: Holdings,
        told: Callable[[Sequence[Written]], None],
        *,
        clock: DatabaseClock,
        meter: Meter,
    ) -> None:
        self._attempts = attempts
        self._upkeep = upkeep
        self._holdings = holdings
        self._told = told
        self._clock = clock
        self._meter = meter
        self._finished: asyncio.Queue[Ended] = asyncio.Queue()
        self._writing = 0

    @property
    def unwritten(self) -> int:
        """How many ends are not written yet."""
        return self._finished.qsize() + self._writing

    def finish(self, ended: Ended) -> None:
        """Takes an end to be written; returns at once."""
        self._finished.put_nowait(ended)

    async def run(self) -> None:
        """The loop: whatever ended while the last group was written is the next group."""
        while True:
            group = [await self._finished.get()]
            while len(group) < MAX_GROUP and not self._finished.empty():
                group.append(self._finished.get_nowait())
            self._writing = len(group)
            try:
                await self._flush(group)
            finally:
                self._writing = 0
                for _ in group:
                    self._finished.task_done()

    async def drain(self, timeout: float) -> bool:
        """Waits until everything taken so far is written, at most `timeout` seconds; says whether it is."""
        try:
            async with asyncio.timeout(timeout):
                await self._finished.join()
        except TimeoutError:
            log.warning("completer.not_drained", unwritten=self.unwritten)
            return False
        return True

    async def _flush(self, group: list[Ended]) -> None:
        ending = [ended for ended in group if ended.transition.state in TERMINAL]
        waiting = [ended for ended in group if ended.transition.state not in TERMINAL]
        if ending:
            await self._write(self._attempts.finish_jobs, ending)
        if waiting:
            await self._write(self._attempts.reschedule_jobs, waiting)

    async def _write(self, write: Write, group: list[Ended]) -> None:
        backoff = Backoff()
        repeated = False
        while group := [ended for ended in group if self._holdings.has(ended.id, ended.fence)]:
            began = time.monotonic()
            try:
                written = await write(group)
            except Exception as error:  # noqa: BLE001 - sorted by _wait_out
                self._meter.database_failed(pool.error_class(error))
                if pool.is_data_error(error) and not pool.is_missing_partition(error):
                    await self._halve(write, group, error)
                    return
                await self._wait_out(error, backoff)
                repeated = True
                continue
            self._meter.statement(write.__name__, time.monotonic() - began, len(group))
            self._settle(group, written)
            missing = {ended.id for ended in group} - {row.id for row in written}
            if missing:
                await self._explain([ended for ended in group if ended.id in missing], repeated=repeated)
            return

    async def _wait_out(self, error: Exception, backoff: Backoff) -> None:
        if pool.is_missing_partition(error):
            try:
                await self._upkeep.ensure_partitions()
            except Exception as second:
                if not (pool.is_passing(second) or pool.is_conflict(second)):
                    raise
            await backoff.pause()
        elif pool.is_conflict(error):
            await asyncio.sleep(0)
        elif pool.is_passing(error):
            log.warning("completer.waits", error=str(error) or type(error).__name__)
            await backoff.pause()
        else:
            raise error

    async def _halve(self, write: Write, group: list[Ended], error: Exception) -> None:
        if len(group) > 1:
            middle = len(group) // 2
            await self._write(write, group[:middle])
            await self._write(write, group[middle:])
            return
        (guilty,) = group
        drop = partial(self._attempts.drop_repeated_job, guilty.id, guilty.fence)
        if pool.is_duplicate(error) and await self._sure(drop):
            await self._explain(group, repeated=True)
            return
        log.error("job.end_refused", job_id=str(guilty.id), error=str(error))
        if guilty.transition.detail == REFUSED:
            raise error  # nothing of the handler's is left to blame
        record = encode_result({"attempt": 0, "at": "", "type": "ResultError", "message": "it cannot be stored"})
        await self._write(
            self._attempts.finish_jobs,
            [_instead(guilty, Transition.discard(Reason.REJECTED, record, REFUSED))],
        )

    def _settle(self, group: Sequence[Ended], written: Sequence[Written]) -> None:
        ends = {ended.id: ended for ended in group}
        for row in written:
            self._holdings.drop(row.id, ends[row.id].fence)
        if written:
            self._count(ends[row.id] for row in written)
            self._told(written)

    def _count(self, ends: Iterable[Ended]) -> None:
        now = self._clock.milliseconds()
        for ended in ends:
            change = ended.transition
            total = (now - submitted_at(ended.id)) / 1000 if change.state in TERMINAL else None
            self._meter.finished(ended.queue, ended.kind, change.event, ended.ran, total)

    async def _explain(self, missing: list[Ended], *, repeated: bool) -> None:
        """A write changed nothing for these: a cancel came between, an earlier try got through, or they were lost."""
        fates = await self._sure(partial(self._attempts.fates_of_jobs, [ended.id for ended in missing]))
        to_cancel = []
        for ended in missing:
            fate = fates.get(ended.id)
            ours = fate is not None and fate.fence == ended.fence
            if ours and fate is not None and fate.state is State.RUNNING and fate.cancel_requested:
                cancel = Transition.cancel(Reason.CANCEL_REQUESTED, error=ended.transition.error)
                to_cancel.append(_instead(ended, cancel))
                continue
            self._holdings.drop(ended.id, ended.fence)
            if not (ours and repeated and fate is not None and fate.state is ended.transition.state):
                self._meter.end_refused()
                log.warning("job.end_came_late", job_id=str(ended.id), fence=ended.fence, meant=ended.transition.state)
            elif fate is not None:
                self._count([ended])
                self._told([Written(ended.id, "", fate.state, 0)])
        if to_cancel:
            await self._write(self._attempts.finish_jobs, to_cancel)

    async def _sure(self, statement: Callable[[], Awaitable[T]]) -> T:
        """What a statement answers, once the database is there."""
        backoff = Backoff()
        while True:
            try:
                return await statement()
            except Exception as error:  # noqa: BLE001 - sorted by _wait_out
                self._meter.database_failed(pool.error_class(error))
                await self._wait_out(error, backoff)


def _instead(ended: Ended, transition: Transition) -> Ended:
    """The same end with another outcome."""
    return msgspec.structs.replace(ended, transition=transition)
