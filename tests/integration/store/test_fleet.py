import datetime as dt

import pytest

from quarterdeck.domain.handler import Handler
from quarterdeck.domain.submission import KindDefaults
from quarterdeck.store.fleet import FleetStore
from tests.support.factories import open_stores

LATEST = (dt.datetime(9999, 1, 1, tzinfo=dt.UTC), "")


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


@pytest.fixture
def fleet(stores):
    return FleetStore(stores.source)


async def resize(width: int): ...


async def announce(stores, *kinds, **defaults):
    await stores.kinds.announce_kinds([Handler(kind, resize, KindDefaults(**defaults)) for kind in kinds])


# describe_kinds


async def test_a_kind_is_described_as_it_was_announced(stores, fleet):
    await announce(stores, "resize", queue="images")
    (kind,) = await fleet.describe_kinds("", 10)
    assert (kind.name, kind.defaults, kind.live) == ("resize", {"queue": "images"}, 0)
    assert kind.schema["properties"] == {"width": {"type": "integer"}}
    assert kind.first_seen == kind.last_seen


async def test_only_workers_whose_lease_lasts_are_live(stores, fleet):
    await announce(stores, "a", "b", "c")
    for lease, kinds in ((60.0, ["a", "b"]), (60.0, ["a"]), (0.0, ["a", "c"])):
        await stores.register(lease, kinds=kinds)
    assert [(kind.name, kind.live) for kind in await fleet.describe_kinds("", 10)] == [("a", 2), ("b", 1), ("c", 0)]


async def test_a_kind_with_a_live_worker_was_seen_at_its_last_beat(stores, fleet):
    await announce(stores, "a")
    await stores.execute("update quarterdeck.kind set last_seen = now() - interval '1 hour'")
    await stores.register(kinds=["a"])
    (beat,) = await stores.fetch("select beat_at from quarterdeck.worker")
    assert (await fleet.describe_kinds("", 10))[0].last_seen == beat["beat_at"]


async def test_kinds_come_by_name_in_pages(stores, fleet):
    await announce(stores, "c", "a", "B", "d")
    assert [kind.name for kind in await fleet.describe_kinds("", 2)] == ["B", "a"]
    assert [kind.name for kind in await fleet.describe_kinds("a", 9)] == ["c", "d"]


# list_workers


async def test_a_worker_is_listed_as_it_registered_while_its_lease_lasts(stores, fleet):
    name = await stores.register(host="h", pid=7, role="worker", queues="a,b=5", kinds=["echo"], slots=3, version="9")
    await stores.register(lease=0.0)
    (worker,) = await fleet.list_workers(LATEST, 10)
    facts = (worker.id, worker.host, worker.pid, worker.role, worker.queues, worker.kinds, worker.slots, worker.version)
    assert facts == (name, "h", 7, "worker", "a,b=5", ["echo"], 3, "9")
    assert (worker.running, worker.draining) == (0, False)
    assert worker.started_at <= worker.beat_at < worker.lease_until


async def test_workers_come_newest_first_in_pages(stores, fleet):
    names = [await stores.register() for _ in range(5)]
    await stores.execute("update quarterdeck.worker set started_at = '2026-01-01Z' where id = any($1)", names[:2])
    expected = [*names[:1:-1], *sorted(names[:2], reverse=True)]
    seen, after = [], LATEST
    while page := await fleet.list_workers(after, 2):
        seen += [worker.id for worker in page]
        after = (page[-1].started_at, page[-1].id)
    assert seen == expected


# idle_kinds


async def test_kinds_without_a_live_worker_are_idle_since_they_were_last_seen(stores, fleet):
    await announce(stores, "served", "left", "never")
    await stores.execute("update quarterdeck.kind set last_seen = now() - interval '100 s' where name <> 'never'")
    await stores.register(kinds=["served"])
    await stores.register(lease=0.0, kinds=["left"])
    idle = await fleet.idle_kinds()
    assert set(idle) == {"left", "never"}
    assert 100 <= idle["left"] < 130
    assert 0 <= idle["never"] < 30


@pytest.mark.parametrize("end", ["deregister_worker", "bury_workers"])
async def test_a_worker_that_ends_leaves_behind_when_its_kinds_were_last_seen(stores, fleet, end):
    await announce(stores, "a", "b")
    await stores.execute("update quarterdeck.kind set last_seen = now() - interval '1 hour'")
    name = await stores.register(lease=60.0 if end == "deregister_worker" else 0.0, kinds=["a"])
    if end == "deregister_worker":
        async with stores.workers() as workers:
            await workers.deregister_worker(name)
    else:
        assert [worker.id for worker in await stores.upkeep.bury_workers()] == [name]
    idle = await fleet.idle_kinds()
    assert 0 <= idle["a"] < 30
    assert 3600 <= idle["b"] < 3630
