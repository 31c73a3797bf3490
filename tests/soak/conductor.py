"""The conductor: starts everything, lets the load and the faults run, waits until all is at rest, and gathers it up."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, nullcontext, suppress
from pathlib import Path
from typing import Any

import msgspec

from tests.soak import ledger
from tests.soak.database import WAITING, Database
from tests.soak.history import Fault, History
from tests.soak.load import Load
from tests.soak.replicas import Replica, proxied_link
from tests.soak.schedule import REPLICAS, Planned, plan
from tests.soak.watchers import Watchers

SETTLE_WITHIN = 60.0
"""Seconds for every submit to be accepted, once the load and the faults are over."""
DRAIN_WITHIN = 90.0
"""Seconds for every job to end after that."""
SEEN_WITHIN = 45.0
"""Seconds for those who follow jobs to have seen it all."""
AT_REST_WITHIN = 10.0
"""Seconds for leases of processes that are gone to be over, and sessions to be quiet."""
RESTART_AFTER = 0.5
"""Seconds that a replica is away after it was killed or has ended."""
LOOK = 0.1
EXPECTED_ERRORS = frozenset(("worker.fenced", "lease.lost"))
"""What a process says at the level of an error when it is cut off, as it should."""

Say = Callable[[str], None]


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What to do: for how many seconds, how many jobs a second, which seed, and whether anything is to go wrong."""

    seconds: float = 60.0
    rate: float = 200.0
    seed: int = 0
    faults: bool = True
    lease: float = 15.0


class Account(msgspec.Struct, kw_only=True):
    """What was seen from outside, for the report. Of answers and of refusals: how many seconds each took."""

    statuses: dict[str, int]
    took: list[float]
    refused: list[float]
    late: int
    injected: dict[str, int]
    unaccepted: int
    undrained: list[str]
    took_in_all: float = 0.0


class Conductor:
    """One soak in a directory of its own."""

    def __init__(self, wishes: Wishes, directory: Path, say: Say) -> None:
        self.replicas: list[Replica] = []
        self._wishes = wishes
        self._directory = directory
        self._say = say
        self._database = Database(directory / "database")
        self._history = History(
            seed=wishes.seed, seconds=wishes.seconds, rate=wishes.rate, lease=wishes.lease, began_at=time.monotonic_ns()
        )
        self._draw = random.Random(wishes.seed)
        self._began = 0.0

    async def run(self) -> tuple[History, Account]:
        """Plays it all. Raises AssertionError where a replica does not start, and OSError where nothing does."""
        began = time.monotonic()
        async with AsyncExitStack() as stack:
            await self._open(stack)
            self._say(f"three replicas are ready after {time.monotonic() - began:.1f} s")
            account = await self._play()
        account.took_in_all = time.monotonic() - began
        return self._history, account

    def logs(self) -> dict[int, str]:
        """What the processes of each replica wrote."""
        return {replica.number: replica.log() for replica in self.replicas}

    async def _open(self, stack: AsyncExitStack) -> None:
        ledgers = self._directory / "ledger"
        ledgers.mkdir(parents=True)
        stack.push_async_callback(self._database.stop)
        await self._database.start()
        settings = {ledger.DIRECTORY: str(ledgers), "QUARTERDECK_LEASE": f"{self._wishes.lease:g}"}
        for number in range(REPLICAS):
            link = await stack.enter_async_context(proxied_link(self._database.dsn, self._wishes.seed + number))
            replica = Replica(number, self._directory, link, settings)
            stack.callback(replica.clean_up)
            self.replicas.append(replica)
        await asyncio.gather(*(replica.start() for replica in self.replicas))

    async def _play(self) -> Account:
        history, wishes = self._history, self._wishes
        history.epoch = time.monotonic_ns() - time.time_ns()
        doors = [replica.door for replica in self.replicas]
        async with (
            Load(doors, rate=wishes.rate, seed=wishes.seed, name=f"soak-{wishes.seed}") as load,
            Watchers(doors, load, seed=wishes.seed) as watchers,
        ):
            self._began = time.monotonic()
            watch = asyncio.create_task(self._watch())
            try:
                unaccepted, undrained = await self._through(load)
                await watchers.settle(SEEN_WITHIN)
                history.watched, history.feeds = watchers.jobs, [watchers.feed]
            finally:
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)
            injected: Counter[str] = Counter()
            for replica in self.replicas:
                injected.update(await replica.link.injected())
            await self._gather(load)
            return Account(
                statuses={str(status): count for status, count in load.statuses.most_common()},
                took=load.took,
                refused=load.refused,
                late=load.late,
                injected=dict(injected),
                unaccepted=unaccepted,
                undrained=undrained,
            )

    async def _through(self, load: Load) -> tuple[int, list[str]]:
        """The load and the faults, and the time until all is at rest; what is left of both."""
        history, wishes = self._history, self._wishes
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._submit(load))
            for fault in plan(wishes.seed, wishes.seconds, wishes.lease) if wishes.faults else []:
                tasks.create_task(self._bring_about(fault))
        unaccepted = await load.settle(SETTLE_WITHIN)
        undrained = await self._drain()
        history.drained_at = time.monotonic_ns()
        self._say(f"at rest {(history.drained_at - history.load_ended_at) / 1e9:.1f} s after the load")
        return unaccepted, undrained

    async def _submit(self, load: Load) -> None:
        await load.run(self._wishes.seconds)
        self._history.load_ended_at = time.monotonic_ns()

    async def _watch(self) -> None:
        """Brings back what ended by itself, which nothing should."""
        while True:
            await asyncio.sleep(LOOK)
            for replica in self.replicas:
                if not replica.turn.locked() and replica.look():
                    self._say(f"replica {replica.number} has ended by itself: {replica.lives[-1].exit_code}")
                    async with replica.turn:
                        await replica.start()

    async def _drain(self) -> list[str]:
        deadline = time.monotonic() + DRAIN_WITHIN
        while time.monotonic() < deadline:
            if not await self._database.unfinished():
                return []
            await asyncio.sleep(LOOK)
        return [str(dict(record)) for record in await self._database.fetch(WAITING)]

    async def _gather(self, load: Load) -> None:
        history = self._history
        history.submits, history.cancels = load.submits, load.cancels
        history.leftovers = await self._at_rest(self._database.leftovers)
        stopped = [replica.pid for replica in self.replicas]
        await asyncio.gather(*(self._end_for_good(replica) for replica in self.replicas))
        workers = await self._database.live_workers()
        history.leftovers += [
            f"the worker {worker} has not left, and its process has"
            for worker, pid in workers.items()
            if pid in stopped
        ]
        history.rows = await self._database.rows()
        history.lines = ledger.read(self._directory / "ledger")
        history.processes = [life for replica in self.replicas for life in replica.lives]
        history.alarms = [alarm for text in self.logs().values() for alarm in alarms(text)]

    async def _at_rest(self, look: Callable[[], Any]) -> list[str]:
        deadline = time.monotonic() + AT_REST_WITHIN
        while (found := await look()) and time.monotonic() < deadline:  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(LOOK)
        return list(found)

    async def _end_for_good(self, replica: Replica) -> None:
        async with replica.turn:
            if replica.up:
                await replica.end()

    # Faults

    async def _bring_about(self, planned: Planned) -> None:
        await asyncio.sleep(max(0.0, self._began + planned.at - time.monotonic()))
        replica = None if planned.replica is None else self.replicas[planned.replica]
        async with replica.turn if replica is not None and planned.name in _ALONE else nullcontext():
            if replica is not None and not replica.up:
                return
            pid = None if replica is None else replica.pid
            began_at = time.monotonic_ns()
            note = await self._do(planned, replica)
            ended_at = time.monotonic_ns()
        self._history.faults.append(
            Fault(name=planned.name, began_at=began_at, ended_at=ended_at, replica=planned.replica, pid=pid, note=note)
        )
        where = "" if planned.replica is None else f" (replica {planned.replica})"
        self._say(f"{planned.at:6.1f} s  {planned.name}{where}, {(ended_at - began_at) / 1e9:.1f} s {note}")

    async def _do(self, planned: Planned, replica: Replica | None) -> str:
        if replica is None:
            await self._do_to_database(planned)
            return ""
        match planned.name:
            case "kill":
                replica.kill()
                await asyncio.sleep(RESTART_AFTER)
                await replica.start()
            case "stop":
                replica.stop()
                try:
                    await asyncio.sleep(planned.seconds)
                finally:
                    replica.go_on()
            case "term":
                took = await replica.end()
                await asyncio.sleep(RESTART_AFTER)
                await replica.start()
                return f"exit after {took:.1f} s"
            case "black_hole":
                await replica.link.black_hole(planned.way, planned.seconds, planned.application)
                return f"{planned.way} {planned.application}".rstrip()
            case "lose_replies":
                await replica.link.lose_replies(planned.share, planned.seconds)
                return f"{planned.share:.0%} of them"
            case "delay":
                await replica.link.delay(planned.seconds)
            case "refuse":
                await replica.link.refuse(planned.seconds)
            case "reset":
                await replica.link.reset()
        return ""

    async def _do_to_database(self, planned: Planned) -> None:
        match planned.name:
            case "end_backends":
                until = time.monotonic() + planned.seconds
                while time.monotonic() < until:
                    await self._database.end_backends(1)
                    await asyncio.sleep(0.5)
            case "crowd":
                await self._database.crowd(planned.seconds)
            case _:
                await self._database.restart(away=planned.seconds, immediate=planned.name == "restart_immediate")


_ALONE = frozenset(("kill", "stop", "term", "black_hole"))
"""Faults that take a replica for themselves."""


def alarms(text: str) -> list[str]:
    """Lines of a log that should never be written: errors, but for those of a process that is cut off."""
    found = []
    for line in text.splitlines():
        record: dict[str, Any] = {}
        with suppress(msgspec.DecodeError):
            record = msgspec.json.decode(line, type=dict[str, Any])
        if not record:
            if "Traceback" in line or "Error" in line:
                found.append(line)
        elif record.get("level") in ("error", "critical") and record.get("event") not in EXPECTED_ERRORS:
            found.append(line)
    return found
