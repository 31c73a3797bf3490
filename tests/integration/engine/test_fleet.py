"""What is known of processes and kinds, and jobs that nobody can run."""

import asyncio

from quarterdeck import Quarterdeck
from quarterdeck.domain.errors import Unavailable
from quarterdeck.domain.state import Reason
from quarterdeck.engine.fleet import Fleet
from quarterdeck.store.fleet import FleetStore
from tests.support.factories import new_job, open_stores
from tests.support.running import running

AN_HOUR_AGO = "update quarterdeck.kind set last_seen = now() - interval '1 hour'"


def a_deck():
    deck = Quarterdeck()

    @deck.handler()
    async def rare() -> None: ...

    return deck


async def stored(stores, kind, state="available"):
    """A job of `kind`, as it is stored."""
    new = new_job(kind=kind)
    await stores.insert(new)
    await stores.execute("update quarterdeck.job set state = $1 where id = $2", state, new.id)
    return (await stores.jobs.get_jobs([new.id]))[new.id]


def fleet_of(runtime, stores):
    """A fleet that knows nothing yet, and of a process that runs nothing."""
    return Fleet(FleetStore(stores.source), calls=runtime.engine.parts.calls, runs=lambda _kind: False)


async def presented(fleet, job):
    await fleet.look([job])
    return fleet.present(job)


async def test_an_available_job_of_a_kind_that_nobody_has_run_for_a_minute_is_unroutable(database_url):
    async with running(database_url, a_deck()):
        pass
    async with running(database_url, role="web") as runtime, open_stores(database_url) as stores:
        job = await stored(stores, "rare")
        assert await presented(fleet_of(runtime, stores), job) == job
        await stores.execute(AN_HOUR_AGO)
        shown = await presented(fleet_of(runtime, stores), job)
        assert (shown.state_reason, shown.seq) == (Reason.UNROUTABLE, job.seq)
        waiting = await stored(stores, "rare", "scheduled")
        fleet = fleet_of(runtime, stores)
        await fleet.look([job])
        assert fleet.present(waiting) == waiting


async def test_a_kind_that_another_process_runs_is_routable(database_url):
    async with (
        running(database_url, a_deck()),
        running(database_url, role="web") as runtime,
        open_stores(database_url) as stores,
    ):
        await stores.execute(AN_HOUR_AGO)
        job = await stored(stores, "rare")
        assert await presented(fleet_of(runtime, stores), job) == job


async def test_looks_are_shared_and_made_only_where_somebody_has_to_be_asked(database_url, monkeypatch):
    looked = []
    idle_kinds = FleetStore.idle_kinds

    async def counted(self):
        looked.append(self)
        return await idle_kinds(self)

    monkeypatch.setattr(FleetStore, "idle_kinds", counted)
    async with running(database_url, a_deck()) as runtime, open_stores(database_url) as stores:
        here, nowhere, waiting = [
            await stored(stores, kind, state)
            for kind, state in (("rare", "available"), ("strange", "available"), ("strange", "scheduled"))
        ]
        await runtime.engine.fleet.look([here, waiting])
        await runtime.engine.fleet.look([])
        assert looked == []
        await asyncio.gather(*(runtime.engine.fleet.look([nowhere]) for _ in range(50)))
        await runtime.engine.fleet.look([nowhere])
        assert len(looked) == 1


async def test_without_the_database_no_job_is_called_unroutable(database_url, monkeypatch):
    async with running(database_url, a_deck()):
        pass
    async with running(database_url, role="web") as runtime, open_stores(database_url) as stores:
        await stores.execute(AN_HOUR_AGO)
        job = await stored(stores, "rare")
        fleet = fleet_of(runtime, stores)
        assert (await presented(fleet, job)).state_reason is Reason.UNROUTABLE

        async def fail(self):
            raise Unavailable("gone")

        monkeypatch.setattr(FleetStore, "idle_kinds", fail)
        fleet._looks.forget("*")
        assert await presented(fleet, job) == job
