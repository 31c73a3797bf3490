"""Feeds: who follows gets every event once and in order, wherever it begins and whoever commits late, or a gap."""

import asyncio
import contextlib
import random
from collections import Counter
from importlib.resources import files

import pytest

from quarterdeck.domain.errors import Unavailable
from quarterdeck.domain.feeds import FeedEvent, FeedFilter
from quarterdeck.domain.listing import InvalidListing
from quarterdeck.engine import feed as feed_module
from quarterdeck.engine import feed_following, feed_log
from quarterdeck.engine.feed_ring import FeedRing
from quarterdeck.store import pool
from quarterdeck.store.feed import FeedStore
from quarterdeck.store.job_edits import JobEditStore
from tests.support.factories import new_id, new_job, open_stores
from tests.support.feeds import feeding
from tests.support.waiting import eventually

PARTS = files("quarterdeck.store") / "sql" / "parts"
LOG = (PARTS / "log_to_feed.sql").read_text()
BUMP = f"""
    with written as (
      update quarterdeck.job j
      set seq = j.seq + 1, timeline = j.timeline || quarterdeck.entry(j.seq + 1, 'updated', null)
      where j.id = $1
      returning j.id, j.seq, j.queue, j.seq as first_seq, j.kind, j.tenant, j.tags, j.workflow_id, j.batch_id
    ), {LOG}
    select seq from written
"""


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


@pytest.fixture
async def feeder(stores):
    async with feeding(stores) as feeder:
        yield feeder


async def insert(stores, **options):
    job = new_job(**options)
    await stores.insert(job)
    return job.id


async def bump(stores, job_id):
    """Give a job its next event."""
    (row,) = await stores.fetch(BUMP, job_id)
    return row["seq"]


# --- what is followed


async def test_a_follower_gets_what_commits_after_it_began(stores, feeder):
    before = await insert(stores)
    follower = await feeder.follow()
    assert not follower.following.pending
    assert await follower.following.take() == []
    after = await insert(stores)
    claimed = await stores.claim("worker")
    await stores.finish(*claimed)
    told = await follower.until(5)
    assert Counter(told) == Counter([(before, 2), (before, 3), (after, 1), (after, 2), (after, 3)])
    first = next(each.event for each in follower.took if each.event.job_id == after)
    assert (first.event, first.data) == ("job.submitted", {"state": "available"})
    last = follower.took[-1].event
    assert (last.event, last.data["state"]) == ("job.completed", "completed")


async def test_a_wake_up_is_followed_at_once_and_a_commit_elsewhere_within_a_poll(stores, feeder, monkeypatch):
    monkeypatch.setattr(feed_module, "POLL", 60.0)
    follower = await feeder.follow()
    job_id = await insert(stores)
    feeder.feed.wake()
    await eventually(lambda: follower.following.pending)
    monkeypatch.setattr(feed_module, "POLL", 0.1)
    feeder.feed.wake()
    assert await follower.until(1) == [(job_id, 1)]
    await bump(stores, job_id)
    await eventually(lambda: follower.following.pending)
    assert await follower.until(2) == [(job_id, 1), (job_id, 2)]


WORKFLOW, BATCH = new_id(), new_id()


@pytest.mark.parametrize(
    ("which", "wanted"),
    [
        (FeedFilter(all=True), "abcd"),
        (FeedFilter(queue="mail"), "a"),
        (FeedFilter(kind="other"), "b"),
        (FeedFilter(tag="red"), "ac"),
        (FeedFilter(workflow=WORKFLOW), "c"),
        (FeedFilter(batch=BATCH), "d"),
        (FeedFilter(queue="nothing"), ""),
    ],
)
@pytest.mark.parametrize("late", [False, True])
async def test_each_filter_lets_through_what_it_says(stores, feeder, which, wanted, late):
    jobs = {
        "a": await insert(stores, queue="mail", tags=["red", "blue"]),
        "b": await insert(stores, kind="other"),
        "c": await insert(stores, tags=["red"]),
        "d": await insert(stores, tags=["redder"]),
    }
    other = await insert(stores, queue="mail", kind="other", tags=["red"], tenant="another")
    await stores.execute("update quarterdeck.job set workflow_id = $1 where id = $2", WORKFLOW, jobs["c"])
    await stores.execute("update quarterdeck.job set batch_id = $1 where id = $2", BATCH, jobs["d"])
    everything, follower = await feeder.follow(), await feeder.follow(which)
    if late:
        cursor = follower.following.cursor
        follower.following.close()
    for job_id in (*jobs.values(), other):
        await bump(stores, job_id)
    await everything.until(4)
    if late:
        follower = await feeder.follow(which, cursor=cursor)
    await follower.until(len(wanted))
    await follower.take()
    assert follower.told == [(jobs[name], 2) for name in wanted]
    stranger = await feeder.follow(which, tenant="another")
    await bump(stores, other)
    await bump(stores, jobs["a"])
    await everything.until(5)
    expected = [(other, 3)] if wanted in ("abcd", "a", "b", "ac") else []
    await stranger.until(len(expected))
    await stranger.take()
    assert stranger.told == expected


@pytest.mark.parametrize(
    ("which", "parameter"),
    [
        (FeedFilter(), "all"),
        (FeedFilter(all=True, queue="a"), "all"),
        (FeedFilter(queue="a", tag="b"), "all"),
        (FeedFilter(queue=""), "queue"),
        (FeedFilter(kind="a b"), "kind"),
        (FeedFilter(tag=""), "tag"),
        (FeedFilter(tag="x" * 129), "tag"),
        (FeedFilter(tag="\x00"), "tag"),
    ],
)
async def test_a_filter_that_breaks_a_rule_is_refused(feeder, which, parameter):
    with pytest.raises(InvalidListing) as refused:
        await feeder.follow(which)
    assert refused.value.parameter == parameter


@pytest.mark.parametrize(
    "cursor", ["", "x", "1", "1-", "-1", "0-0", "01-0", "1-00", "1-0 ", "1-0\n", "f" * 16 + "-0", "\uff11-0"]
)
async def test_a_cursor_that_cannot_be_read_is_refused(feeder, cursor):
    with pytest.raises(InvalidListing, match="cursor"):
        await feeder.follow(cursor=cursor)


async def test_a_group_of_jobs_that_were_handed_off_is_told_whole(stores, feeder):
    worker = await stores.register()
    follower = await feeder.follow()
    jobs = [new_job() for _ in range(3)]
    await stores.jobs.insert_jobs(jobs, [True] * 3, worker)
    assert await follower.until(6) == [(job.id, seq) for job in jobs for seq in (1, 2)]
    # Each of them has a place of its own.
    for number, each in enumerate(follower.took, 1):
        again = await feeder.follow(cursor=each.cursor)
        await again.take()
        assert again.told == follower.told[number:]


# --- everything, once and in order


class Resuming:
    """Follows now here and now there, always from where it was, and checks that nothing is missing."""

    def __init__(self, rng):
        self.seen = {}
        self.cursors = []
        self._rng = rng

    @property
    def count(self):
        return sum(self.seen.values()) - len(self.seen)

    async def run(self, feeders, count):
        follower = await feeders[0].follow()
        begun = follower.following.cursor
        self.cursors.append(begun)
        while self.count < count:
            for each in await follower.following.take(self._rng.randint(1, 9)):
                assert isinstance(each, FeedEvent)
                last = self.seen.get(each.event.job_id, 1)
                assert each.event.seq <= last + 1  # what comes again is known by its number
                self.seen[each.event.job_id] = max(last, each.event.seq)
                self.cursors.append(each.cursor)
            await asyncio.sleep(self._rng.random() * 0.02)
            # Within a span whose order was turned round, one begins again where one began.
            if self.cursors[-1] != begun and self._rng.random() < 0.3:
                begun = self.cursors[-1]
                follower.following.close()
                follower = await self._rng.choice(feeders).follow(cursor=begun)

    async def look_back(self, feeder):
        """From long ago everything comes again, in order."""
        while True:
            await asyncio.sleep(0.05)
            follower = await feeder.follow(cursor=self._rng.choice(self.cursors))
            numbers = {}
            for each in await follower.take():
                numbers.setdefault(each.event.job_id, []).append(each.event.seq)
            follower.following.close()
            for of_job in numbers.values():
                assert of_job == list(range(of_job[0], of_job[0] + len(of_job)))


@pytest.mark.parametrize("seed", [1])
async def test_fifty_writers_who_commit_late_are_followed_without_a_miss(stores, database_url, seed):
    """Each job's numbers come whole and in order, to one who stays and to one who begins again at random cursors."""
    jobs = [await insert(stores) for _ in range(12)]
    rng = random.Random(seed)
    connections = await pool.open_pool(database_url, name="writers", size=50, command_timeout=30)

    async def write():
        for _ in range(4):
            async with connections.acquire() as connection, connection.transaction():
                # Two jobs in one transaction, in one order: nobody waits for each other.
                for job_id in sorted(rng.sample(jobs, 2)):
                    await connection.fetch(BUMP, job_id)
                    await asyncio.sleep(rng.random() * 0.01)

    count = 50 * 4 * 2
    try:
        async with feeding(stores) as one, feeding(stores) as two:
            stays = await one.follow()
            resuming = Resuming(rng)
            resumes = asyncio.create_task(resuming.run([two, one], count))
            await eventually(lambda: resuming.cursors)
            looks = asyncio.create_task(resuming.look_back(one))
            await asyncio.gather(*(write() for _ in range(50)))
            told = await stays.until(count)
            await asyncio.wait({resumes, looks}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
            looks.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looks
            await asyncio.wait_for(resumes, 0.1)
    finally:
        await pool.close_pool(connections)
    assert len(told) == resuming.count == count
    for job_id in jobs:
        seqs = [seq for each, seq in told if each == job_id]
        assert seqs == list(range(2, len(seqs) + 2))


async def test_what_commits_late_is_not_skipped(stores, feeder):
    first, second = await insert(stores), await insert(stores)
    follower = await feeder.follow()
    async with stores.transaction() as late:
        await bump(late, first)
        await bump(stores, second)
        await eventually(lambda: feeder.feed._held is not None)
        assert await follower.take() == []
    assert await follower.until(2) == [(first, 2), (second, 2)]


async def test_a_job_s_events_come_in_order_where_their_transactions_do_not(stores, feeder):
    """A transaction has its number before it waits for the row: the later event has the lower number."""
    job_id, other = await insert(stores), await insert(stores)
    follower = await feeder.follow()
    async with stores.transaction() as early:
        await early.fetch("select pg_current_xact_id()")
        async with stores.transaction() as late:
            await bump(late, job_id)
            await bump(late, other)
            waits = asyncio.create_task(bump(early, job_id))
            await stores.until_somebody_waits()
        assert await waits == 3
    told = await follower.until(3)
    assert sorted(told) == sorted([(job_id, 2), (job_id, 3), (other, 2)])
    assert told.index((job_id, 2)) < told.index((job_id, 3))
    # From the middle of it some comes again, and nothing is missed. Other databases' transactions may be before it.
    start = follower.took[0].cursor
    for number, each in enumerate(follower.took, 1):
        again = await feeder.follow(cursor=each.cursor)
        await again.take()
        assert set(told[number:]) <= set(again.told) <= set(told)
        assert (each.cursor == start) == (number < told.index((job_id, 3)) + 1)


async def test_an_event_waits_for_an_earlier_one_beyond_what_can_be_read(stores, feeder):
    job_id, other = await insert(stores), await insert(stores)
    follower = await feeder.follow()
    async with stores.connection() as connection, stores.transaction() as early:
        await early.fetch("select pg_current_xact_id()")
        between = connection.transaction()
        await between.start()
        await connection.fetch(BUMP, other)
        async with stores.transaction() as late:
            await bump(late, job_id)
            waits = asyncio.create_task(bump(early, job_id))
            await stores.until_somebody_waits()
        await waits
        early_xid = (await early.fetch("select pg_current_xact_id()::text::bigint as xid"))[0]["xid"]
        await early.execute("commit")
        await early.execute("begin")
        store = FeedStore(stores.source)
        reading = await store.read_feed(early_xid, 10)
        assert reading.rows[0].xid == early_xid
        await eventually(lambda: feeder.feed._held is not None)
        assert await follower.take() == []
        await between.commit()
    assert await follower.until(3) == [(job_id, 2), (other, 2), (job_id, 3)]


# --- the beginning


async def test_whoever_begins_waits_for_statements_that_do_not_know_of_it(stores, feeder):
    job_id = await insert(stores)
    async with stores.transaction() as open_one:
        await open_one.execute("select from quarterdeck.job for update")
        late = asyncio.create_task(stores.jobs.cancel_job(job_id, "default"))
        await stores.until_somebody_waits()
        begins = asyncio.create_task(feeder.follow())
        await eventually(lambda: feeder.feed._renewed is not None)
        await asyncio.sleep(0.1)
        assert not begins.done()
        assert not late.done()
    await late
    follower = await begins
    assert not follower.following.pending
    await insert(stores)
    assert "gap" not in await follower.until(1)


async def test_whoever_cannot_wait_begins_with_a_gap_and_hears_when_it_is_over(stores, feeder, monkeypatch):
    monkeypatch.setattr(feed_log, "SETTLE", 0.2)
    job_id = await insert(stores)
    async with stores.transaction() as open_one:
        await open_one.execute("select from quarterdeck.job for update")
        late = asyncio.create_task(stores.jobs.cancel_job(job_id, "default"))
        await stores.until_somebody_waits()
        follower = await feeder.follow()
        assert await follower.until(1) == ["gap"]
        await asyncio.sleep(0.1)
        assert follower.told == ["gap"]
    await late
    assert await follower.until(2) == ["gap", "gap"]
    after = await insert(stores)
    assert await follower.until(3) == ["gap", "gap", (after, 1)]


async def test_a_long_transaction_delays_the_beginning_only_and_is_told_when_it_ends(stores, feeder, monkeypatch):
    monkeypatch.setattr(feed_log, "SETTLE", 0.1)
    async with stores.transaction() as open_one:
        await open_one.fetch("select pg_current_xact_id()")
        follower = await feeder.follow()
        job_id = await insert(stores)
        assert await follower.until(2) == ["gap", (job_id, 1)]
        late = new_job()
        await open_one.insert(late)
    assert await follower.until(3) == ["gap", (job_id, 1), (late.id, 1)]


async def test_without_a_lease_nobody_can_begin(stores, feeder):
    feeder.feed._worker = lambda: None
    with pytest.raises(Unavailable):
        await feeder.follow()
    feeder.feed._worker = lambda: "nobody"
    with pytest.raises(Unavailable):
        await feeder.follow()


# --- gaps


async def test_what_a_transaction_holds_up_too_long_comes_with_a_gap_and_the_rest_when_it_ends(
    stores, feeder, monkeypatch
):
    monkeypatch.setattr(feed_module, "HELD", 0.2)
    first, second = await insert(stores), await insert(stores)
    follower = await feeder.follow()
    async with stores.transaction() as late:
        await bump(late, first)
        await bump(stores, second)
        assert await follower.until(2) == [(second, 2), "gap"]
        await bump(stores, second)  # it is not waited for again
        assert await follower.until(3) == [(second, 2), "gap", (second, 3)]
        gap = follower.took[1].cursor
    assert await follower.until(4) == [(second, 2), "gap", (second, 3), (first, 2)]
    again = await feeder.follow(cursor=gap)
    await again.take()
    assert again.told == [(second, 3)]


async def test_a_job_that_was_deleted_before_it_was_read_is_a_gap(stores, feeder):
    follower = await feeder.follow()
    async with feeder.feed._lock:
        job_id = await insert(stores)
        await stores.jobs.cancel_job(job_id, "default")
        await JobEditStore(stores.source).delete_job(job_id, "default")
        other = await insert(stores)
    assert await follower.until(2) == ["gap", (other, 1)]


async def test_a_resume_across_a_time_when_nobody_wanted_the_log_is_a_gap(stores, feeder):
    follower = await feeder.follow()
    await insert(stores)
    await follower.until(1)
    cursor = follower.following.cursor
    follower.following.close()
    await eventually(lambda: feeder.feed._renewed is None)
    await stores.execute("update quarterdeck.worker set feed_until = now()")
    missed = await insert(stores)
    follower = await feeder.follow(cursor=cursor)
    told = await follower.until(1)
    assert told == ["gap"]
    after = await bump(stores, missed)
    assert await follower.until(2) == ["gap", (missed, after)]


async def test_a_resume_within_the_time_that_it_is_still_wanted_misses_nothing(stores, feeder):
    follower = await feeder.follow()
    cursor = follower.following.cursor
    follower.following.close()
    await eventually(lambda: feeder.feed._renewed is None)
    (row,) = await stores.fetch("select feed_until > now() + interval '55 s' as far from quarterdeck.worker")
    assert row["far"]
    job_id = await insert(stores)
    async with feeding(stores) as another:
        follower = await another.follow(cursor=cursor)
        await follower.take()
        assert follower.told == [(job_id, 1)]


async def test_followers_hear_of_a_hole_that_their_own_process_left(stores, feeder, monkeypatch):
    follower = await feeder.follow()
    await stores.execute("update quarterdeck.worker set feed_until = now()")
    job_id = await insert(stores)
    other = await stores.register()
    feeder.feed._worker = lambda: other
    assert await follower.until(1) == ["gap"]
    seq = await bump(stores, job_id)
    assert await follower.until(2) == ["gap", (job_id, seq)]


async def test_a_cursor_whose_time_was_forgotten_is_a_gap(stores, feeder):
    follower = await feeder.follow()
    await insert(stores)
    await follower.until(1)
    cursor = follower.took[-1].cursor
    await stores.execute("truncate quarterdeck.feed")
    again = await feeder.follow(cursor=cursor)
    assert await again.until(1) == ["gap"]
    job_id = await insert(stores)
    assert await again.until(2) == ["gap", (job_id, 1)]


async def test_a_cursor_from_the_future_is_a_gap(stores, feeder):
    again = await feeder.follow(cursor="7fffffffff-0")
    assert await again.until(1) == ["gap"]
    job_id = await insert(stores)
    assert await again.until(2) == ["gap", (job_id, 1)]


# --- slow followers


async def test_who_falls_out_of_the_ring_reads_the_log_for_itself(stores):
    async with feeding(stores, ring=FeedRing(5, 10**6)) as feeder:
        fast, slow = await feeder.follow(), await feeder.follow()
        job_id = await insert(stores)
        for number in range(2, 40):
            await bump(stores, job_id)
            await fast.until(number)
        assert feeder.feed.ring.first > 20
        told = await slow.until(39)
        assert told == [(job_id, seq) for seq in range(1, 40)]
        await bump(stores, job_id)
        assert (await slow.until(40))[-1] == (job_id, 40)
        assert slow.following._until is None


async def test_a_ring_is_bounded_by_bytes(stores):
    async with feeding(stores, ring=FeedRing(10**6, 5000)) as feeder:
        follower = await feeder.follow()
        job_id = await insert(stores)
        for _ in range(20):
            await bump(stores, job_id)
        assert len(await follower.until(21)) == 21
        assert feeder.feed.ring.end - feeder.feed.ring.first == 10


async def test_a_gap_that_was_missed_in_the_ring_is_still_told(stores, monkeypatch):
    monkeypatch.setattr(feed_module, "HELD", 0.1)
    async with feeding(stores, ring=FeedRing(3, 10**6)) as feeder:
        fast, slow = await feeder.follow(), await feeder.follow()
        job_id, other = await insert(stores), await insert(stores)
        async with stores.transaction() as late:
            await bump(late, other)
            await bump(stores, job_id)
            assert (await fast.until(4))[-1] == "gap"
            for number in range(9):
                await bump(stores, job_id)
                await fast.until(5 + number)
            await slow.take()
        assert "gap" in slow.told


async def test_many_are_read_in_parts(stores, feeder, monkeypatch):
    monkeypatch.setattr(feed_log, "ROWS", 8)
    monkeypatch.setattr(feed_log, "MAX_ROWS", 8)
    monkeypatch.setattr(feed_following, "BATCH", 3)
    follower = await feeder.follow()
    start = follower.following.cursor
    async with feeder.feed._lock:
        jobs = [await insert(stores) for _ in range(40)]
    assert await follower.until(40) == [(job_id, 1) for job_id in jobs]
    again = await feeder.follow(cursor=start)
    took = []
    while again.following.pending:
        took += await again.following.take(2)
    assert [each.event.job_id for each in took] == jobs


async def test_who_is_far_behind_gets_one_progress_for_several(stores, feeder):
    claimed = await stores.running()
    follower, far = await feeder.follow(), await feeder.follow()
    start = far.following.cursor
    record = """
        with told as (update quarterdeck.job set seq = seq + 40 where id = $1 returning *),
        recorded as (insert into quarterdeck.job_event (job_id, queue, seq, generation, attempt, event, data)
          select id, queue, seq - 40 + n, generation, attempt, case n when 20 then 'log' else 'progress' end, '{"n":1}'
          from told, generate_series(1, 40) n)
        insert into quarterdeck.feed (events) select json_build_array(json_build_array(
          id, seq - 39, seq, queue, kind, tenant, tags, null, null)) from told
    """
    await stores.execute(record, claimed.id)
    feeder.feed.wake()
    for taker in (far, await feeder.follow(cursor=start)):
        await taker.until(3)
        shape = [(each.event.event, each.event.merged_from, each.event.seq) for each in taker.took]
        assert shape == [("job.progress", 3, 21), ("job.log", None, 22), ("job.progress", 23, 42)]
        again = await feeder.follow(cursor=taker.took[0].cursor)
        await again.take()
        assert again.told[0] == (claimed.id, 22)
    while follower.following.pending:
        follower.took += await follower.following.take(8)
    assert [seq for _, seq in follower.told] == list(range(3, 43))


# --- nobody


async def test_without_followers_nothing_is_read_or_logged(stores, database_url):
    statements = []

    class Counting:
        def acquire(self, **options):
            statements.append(options)
            return stores.source.acquire(**options)

    async with feeding(stores, source=Counting()) as feeder:
        await insert(stores)
        feeder.feed.wake()
        await asyncio.sleep(0.7)
        assert statements == []
        follower = await feeder.follow()
        await eventually(lambda: len(statements) > 4)
        follower.following.close()
        await eventually(lambda: feeder.feed._renewed is None)
        count = len(statements)
        feeder.feed.wake()
        await asyncio.sleep(0.7)
        assert len(statements) == count
        assert feeder.feed.followed == 0
    (row,) = await stores.fetch("select count(*) from quarterdeck.feed where events::text <> '[]'")
    assert row["count"] == 0


async def test_the_log_is_wanted_again_in_time(stores, feeder, monkeypatch):
    monkeypatch.setattr(feed_module, "RENEW", 0.05)
    await feeder.follow()
    (first,) = await stores.fetch("select feed_until from quarterdeck.worker")

    async def later():
        (row,) = await stores.fetch("select feed_until from quarterdeck.worker")
        return row["feed_until"] > first["feed_until"]

    await eventually(later)


async def test_old_entries_are_forgotten_now_and_then(stores, feeder, monkeypatch):
    await stores.execute(
        """insert into quarterdeck.feed (slot, at, events)
        select quarterdeck.feed_slot(m), m, '[]' from (select now() - interval '2 hours' as m) m"""
    )
    monkeypatch.setattr(feed_module, "PRUNE", 0.02)
    loop = asyncio.create_task(feeder.feed.prune())

    async def empty():
        return (await stores.fetch("select count(*) from quarterdeck.feed"))[0]["count"] == 0

    await eventually(empty)
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
