import asyncio
import datetime as dt

import msgspec
import pytest

from quarterdeck.domain.queue import QueuePatch, QueueSettings
from quarterdeck.store.queues import QueueStore, Room
from tests.support.factories import new_job, open_stores


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


@pytest.fixture
def queues(stores):
    return QueueStore(stores.source)


async def keyed(stores, job):
    """Give a job a concurrency key, which no submit of this release can."""
    await stores.execute("update quarterdeck.job set concurrency_key = 'k' where id = $1", job.id)


async def in_every_state(stores, queue):
    """One running job in `queue`, two that are available, and so on."""
    await stores.running("w", queue=queue)
    available = [new_job(queue=queue) for _ in range(2)]
    parked = [new_job(queue=queue, delay=60.0) for _ in range(12)]
    await stores.insert(*available, *parked)
    for state, some in (("retryable", parked[3:7]), ("pending", parked[7:])):
        await stores.execute(
            "update quarterdeck.job set state = $1 where id = any($2::uuid[])", state, [job.id for job in some]
        )
    await keyed(stores, available[0])
    await stores.finish(await stores.running("w", queue=f"{queue}-over"))


# name_queues


async def test_queues_without_settings_and_jobs_have_no_name(queues):
    assert await queues.name_queues("", 10) == []


async def test_a_queue_is_named_by_its_settings_and_by_a_job_in_any_state(stores, queues):
    await queues.update_queue("set", QueuePatch())
    await stores.running("w", queue="running")
    jobs = {name: new_job(queue=name, delay=60.0) for name in ("scheduled", "retryable", "pending")}
    jobs |= {name: new_job(queue=name) for name in ("available", "keyed", "set")}
    await stores.insert(*jobs.values())
    await keyed(stores, jobs["keyed"])
    for state in ("retryable", "pending"):
        await stores.execute("update quarterdeck.job set state = queue where queue = $1", state)
    await stores.finish(await stores.running("w", queue="over"))
    expected = ["available", "keyed", "pending", "retryable", "running", "scheduled", "set"]
    assert await queues.name_queues("", 10) == expected


async def test_names_come_in_order_of_their_bytes_and_in_pages(stores, queues):
    names = ["Z", "a", "b", "b-1", "b.1", "b:1", "b_1", "ba"]
    await stores.insert(*[new_job(queue=name) for name in names[::2] for _ in range(3)])
    for name in names[1::2]:
        await queues.update_queue(name, QueuePatch())
    expected = sorted(names, key=str.encode)
    assert await queues.name_queues("", 100) == expected
    assert await queues.name_queues("", 3) == expected[:3]
    assert await queues.name_queues(expected[2], 3) == expected[3:6]
    assert await queues.name_queues(expected[-1], 3) == []


# get_queues, update_queue


async def test_a_queue_that_was_never_set_has_no_settings(stores, queues):
    await stores.insert(new_job(queue="a"))
    assert await queues.get_queues(["a"]) == {}


async def test_a_change_leaves_alone_what_it_does_not_give(queues):
    assert await queues.update_queue("a", QueuePatch()) == QueueSettings()
    assert await queues.update_queue("a", QueuePatch(max_depth=5)) == QueueSettings(max_depth=5)
    assert await queues.update_queue("a", QueuePatch(paused=True)) == QueueSettings(paused=True, max_depth=5)
    assert await queues.update_queue("a", QueuePatch()) == QueueSettings(paused=True, max_depth=5)
    assert await queues.get_queues(["a", "b"]) == {"a": QueueSettings(paused=True, max_depth=5)}
    assert await queues.update_queue("a", QueuePatch(max_depth=None)) == QueueSettings(paused=True)
    assert await queues.update_queue("a", QueuePatch(paused=None)) == QueueSettings()


async def test_changes_at_the_same_time_lose_nothing(queues):
    await asyncio.gather(
        *(queues.update_queue("a", QueuePatch(paused=True)) for _ in range(5)),
        *(queues.update_queue("a", QueuePatch(max_depth=7)) for _ in range(5)),
    )
    assert await queues.get_queues(["a"]) == {"a": QueueSettings(paused=True, max_depth=7)}


async def test_settings_that_this_release_cannot_make_are_read_as_they_are(stores, queues):
    await stores.execute(
        """insert into quarterdeck.queue
          (name, concurrency, concurrency_per_key, rate, rate_every, rate_burst, retention)
        values ('a', 3, 0, '100/1m', '600 ms', 100, 3600)"""
    )
    settings = (await queues.get_queues(["a"]))["a"]
    assert settings == QueueSettings(concurrency=3, concurrency_per_key=0, rate="100/1m", retention=3600.0)


# count_depths


async def test_a_depth_counts_every_state_of_its_own_queue(stores, queues):
    await in_every_state(stores, "a")
    await in_every_state(stores, "b")
    depths = await queues.count_depths(["a", "nobody", "b"])
    assert set(depths) == {"a", "nobody", "b"}
    for name in ("a", "b"):
        depth = depths[name]
        counts = (depth.available, depth.running, depth.scheduled, depth.retryable, depth.pending)
        assert counts == (2, 1, 3, 4, 5)
    nobody = msgspec.structs.asdict(depths["nobody"])
    assert nobody.pop("as_of") == depths["a"].as_of
    assert set(nobody.values()) == {0, None}


async def test_a_depth_is_of_the_moment_it_tells(stores, queues):
    (before,) = await stores.fetch("select clock_timestamp() as now")
    depth = (await queues.count_depths(["a"]))["a"]
    (after,) = await stores.fetch("select clock_timestamp() as now")
    assert before["now"] <= depth.as_of <= after["now"]


@pytest.mark.parametrize("with_key", [False, True])
async def test_the_age_is_that_of_the_available_job_due_longest_whatever_its_priority(stores, queues, with_key):
    (facts,) = await stores.fetch("select now() as now")
    oldest = new_job(queue="a", priority=9, run_at=facts["now"] - dt.timedelta(seconds=500))
    newer = new_job(queue="a", priority=0, run_at=facts["now"] - dt.timedelta(seconds=100))
    await stores.insert(oldest, newer, new_job(queue="a"), new_job(queue="a", delay=60.0))
    if with_key:
        await keyed(stores, oldest)
    assert 500 <= (await queues.count_depths(["a"]))["a"].oldest_available_age < 530


async def test_a_job_due_by_a_clock_that_is_ahead_has_no_negative_age(stores, queues):
    await stores.insert(new_job(queue="a"))
    await stores.execute("update quarterdeck.job set run_at = now() + interval '1 minute'")
    assert (await queues.count_depths(["a"]))["a"].oldest_available_age == 0.0


# count_finished


async def test_jobs_that_ended_lately_are_counted_by_queue(stores, queues):
    for queue in ("a", "a", "b"):
        await stores.finish(await stores.running("w", queue=queue))
    assert await queues.count_finished(["a", "c"], 60.0) == {"a": 2}
    assert await queues.count_finished(["a", "b"], 0.0) == {}


# count_room


async def test_the_room_of_a_queue_is_its_max_depth_less_every_unfinished_job(stores, queues):
    await in_every_state(stores, "a")
    for queue in ("a", "empty"):
        await queues.update_queue(queue, QueuePatch(max_depth=20))
    await queues.update_queue("unbounded", QueuePatch(paused=True))
    rooms = await queues.count_room(["a", "empty", "unbounded", "nobody"])
    assert rooms == {"a": Room(20, 5), "empty": Room(20, 20)}


async def test_a_queue_far_beyond_its_max_depth_has_no_room(stores, queues):
    await stores.insert(*[new_job(queue="a") for _ in range(50)])
    await queues.update_queue("a", QueuePatch(max_depth=3))
    assert (await queues.count_room(["a"]))["a"].left <= 0


async def test_reading_writes_nothing(stores):
    await stores.insert(new_job())
    async with stores.transaction() as readonly:
        await readonly.execute("set transaction read only")
        queues = QueueStore(readonly.source)
        assert await queues.name_queues("", 5) == ["default"]
        assert (await queues.count_depths(["default"]))["default"].available == 1
        assert await queues.count_finished(["default"], 10.0) == {}
        assert await queues.count_room(["default"]) == {}
        assert await queues.get_queues(["default"]) == {}
