"""The feed log: what each writing statement adds to it, and only while somebody wants it."""

import asyncio
import datetime as dt

import asyncpg
import pytest

from quarterdeck.domain.edit import Edit
from quarterdeck.domain.feeds import Entry
from quarterdeck.domain.outcome import Transition
from quarterdeck.store.feed import FeedStore
from quarterdeck.store.job_edits import JobEditStore
from quarterdeck.store.queries import SQL
from tests.support.factories import EVERY_KIND, QUEUE, completed, ended, error_record, new_id, new_job, open_stores
from tests.support.waiting import eventually

WORKFLOW, BATCH = new_id(), new_id()
TENANT = "default"
IDS = "update quarterdeck.job set workflow_id = $1, batch_id = $2"


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def inserted(stores, **options):
    job = new_job(tags=["a", 'b"'], **options)
    await stores.insert(job)
    await stores.execute(IDS, WORKFLOW, BATCH)
    return job


async def claimed(stores, worker="worker"):
    job = await inserted(stores)
    (found,) = await stores.claim(worker)
    assert found.id == job.id
    return found


async def insert(stores):
    job = new_job(tags=["a", 'b"'])

    async def write():
        await stores.jobs.insert_jobs([job], [False], None)

    return job.id, write


async def hand_off(stores):
    job, worker = new_job(tags=["a", 'b"']), await stores.register()

    async def write():
        facts = await stores.jobs.insert_jobs([job], [True], worker)
        assert not facts or facts[job.id].seq == 2

    return job.id, write


async def claim(stores):
    job = await inserted(stores)
    return job.id, lambda: stores.claim("worker")


async def claim_suspect(stores):
    job = await inserted(stores)
    await stores.execute("update quarterdeck.job set crashes = 2")
    return job.id, lambda: stores.attempts.claim_suspect(job.id, "worker")


async def finish(stores):
    job = await claimed(stores)
    return job.id, lambda: stores.attempts.finish_jobs([completed(job)])


async def reschedule(stores):
    job = await claimed(stores)
    return job.id, lambda: stores.attempts.reschedule_jobs([ended(job, Transition.retry(9.0, None, error_record()))])


async def release(stores):
    job = await claimed(stores)
    return job.id, lambda: stores.attempts.release_worker("worker")


async def rescue(stores):
    job = await claimed(stores)
    return job.id, lambda: stores.upkeep.rescue_jobs(10)


async def rescue_for_the_third_time(stores):
    job = await claimed(stores)
    await stores.execute("update quarterdeck.job set crashes = 2")
    return job.id, lambda: stores.upkeep.rescue_jobs(10)


async def promote(stores):
    job = await inserted(stores, delay=60.0)
    await stores.execute("update quarterdeck.job set run_at = now() - interval '1 minute'")
    return job.id, lambda: stores.upkeep.promote_jobs(10)


async def expire(stores):
    job = await inserted(stores, ttl=60.0)
    await stores.execute("update quarterdeck.job set expires_at = now() - interval '1 minute'")
    return job.id, lambda: stores.upkeep.expire_jobs(10)


async def cancel(stores):
    job = await inserted(stores)
    return job.id, lambda: stores.jobs.cancel_job(job.id, TENANT)


async def cancel_running(stores):
    job = await claimed(stores)
    return job.id, lambda: stores.jobs.cancel_job(job.id, TENANT)


async def retry(stores):
    job = await claimed(stores)
    await stores.finish(job)
    return job.id, lambda: JobEditStore(stores.source).retry_job(job.id, TENANT)


async def retry_scheduled(stores):
    job = await inserted(stores, delay=60.0)
    return job.id, lambda: JobEditStore(stores.source).retry_job(job.id, TENANT)


async def update(stores):
    job = await inserted(stores)
    return job.id, lambda: JobEditStore(stores.source).update_job(job.id, TENANT, Edit(priority=1), None)


async def forgive(stores):
    job = await claimed(stores)
    await stores.upkeep.rescue_jobs(10)
    return job.id, lambda: stores.attempts.forgive_crashes({job.id: job.fence})


WRITES = [
    insert,
    hand_off,
    claim,
    claim_suspect,
    finish,
    reschedule,
    release,
    rescue,
    rescue_for_the_third_time,
    promote,
    expire,
    cancel,
    cancel_running,
    retry,
    retry_scheduled,
    update,
    forgive,
]


async def seq_of(stores, job_id):
    rows = await stores.fetch(
        "select seq from quarterdeck.job where id = $1 union all select seq from quarterdeck.job_history where id = $1",
        job_id,
    )
    return rows[0]["seq"] if rows else 0


async def log(stores):
    return [row["events"] for row in await stores.fetch("select events::text from quarterdeck.feed order by xid")]


async def want(stores, seconds=60.0):
    wanted = await FeedStore(stores.source).want_feed(await stores.register(), seconds)
    assert wanted is not None
    return wanted


@pytest.mark.parametrize("prepare", WRITES)
async def test_a_write_logs_what_it_did_while_somebody_wants_it(stores, prepare):
    job_id, write = await prepare(stores)
    wanted = await want(stores)
    before = await seq_of(stores, job_id)
    await write()
    seq = await seq_of(stores, job_id)
    assert seq > before
    reading = await FeedStore(stores.source).read_feed(wanted.xid + 1, 10)
    (row,) = reading.rows
    ids = (None, None) if prepare in (insert, hand_off) else (WORKFLOW, BATCH)
    assert row.entries == [Entry(job_id, before + 1, seq, QUEUE, "echo", TENANT, ["a", 'b"'], *ids)]
    assert wanted.xid < row.xid < reading.top
    assert not reading.full


@pytest.mark.parametrize("prepare", WRITES)
@pytest.mark.parametrize("wanted_once", [False, True])
async def test_a_write_logs_nothing_while_nobody_wants_it(stores, prepare, wanted_once):
    if wanted_once:
        await want(stores, -1.0)
    job_id, write = await prepare(stores)
    before = await seq_of(stores, job_id)
    await write()
    assert await seq_of(stores, job_id) > before
    assert await log(stores) == ["[]"] * wanted_once


@pytest.mark.parametrize("prepare", WRITES)
async def test_a_write_that_changes_nothing_logs_nothing(stores, prepare):
    _, write = await prepare(stores)
    await write()
    await want(stores)
    if prepare is not retry:  # what was retried waits, and to retry it once more is to make it due
        await write()
    assert await log(stores) == ["[]"]


async def test_every_statement_that_gives_seqs_logs_them():
    writing = {name for name, text in SQL.items() if "quarterdeck.entry(" in text or "seq = j.seq + " in text}
    assert len(writing) > 12
    assert {name for name in writing if "insert into quarterdeck.feed" not in SQL[name]} == set()


async def test_a_group_is_one_row(stores):
    await want(stores)
    jobs = [new_job() for _ in range(3)]
    await stores.insert(*jobs)
    _, events = await log(stores)
    assert events.count("echo") == 3


# --- who wants it


async def test_the_first_who_wants_it_marks_the_hole_before(stores):
    store = FeedStore(stores.source)
    one, two = await stores.register(), await stores.register()
    assert await store.want_feed("nobody", 60.0) is None
    assert [(await store.want_feed(each, 60.0)).begun for each in (one, two, one)] == [True, False, False]
    assert await log(stores) == ["[]"]
    until = "select feed_until > now() + interval '55 s' as far from quarterdeck.worker"
    assert [row["far"] for row in await stores.fetch(until)] == [True, True]


async def test_who_wants_it_soon_no_more_does_not_count(stores):
    store = FeedStore(stores.source)
    one, two = await stores.register(), await stores.register()
    await store.want_feed(one, 10.0)
    assert (await store.want_feed(two, 10.0)).begun
    assert (await store.want_feed(two, 60.0)).begun


async def test_a_worker_who_goes_waits_until_it_is_known_who_else_wants_it(stores):
    one, two = await stores.register(), await stores.register()
    await FeedStore(stores.source).want_feed(one, 60.0)
    async with stores.transaction() as open_one:
        assert not (await FeedStore(open_one.source).want_feed(two, 60.0)).begun
        gone = asyncio.create_task(stores.execute("delete from quarterdeck.worker where id = $1", one))
        await stores.until_somebody_waits()
    await gone


async def test_a_log_that_is_wanted_and_quiet_keeps_a_place_for_cursors(stores):
    store, worker = FeedStore(stores.source), await stores.register()
    wanted = await store.want_feed(worker, 60.0)
    await stores.execute("update quarterdeck.feed set at = at - interval '11 minutes'")
    await store.want_feed(worker, 60.0)
    await store.want_feed(worker, 60.0)
    assert await log(stores) == ["[]", "null"]
    assert [row.entries for row in (await store.read_feed(wanted.xid, 10)).rows] == [[]]


# --- reading


async def test_a_reading_tells_what_is_in_progress(stores):
    store = FeedStore(stores.source)
    wanted = await want(stores)
    async with stores.transaction() as open_one:
        await open_one.insert(new_job())
        (row,) = await open_one.fetch("select pg_current_xact_id()::text::bigint as xid")
        await stores.insert(new_job())
        reading = await store.read_feed(wanted.xid + 1, 10)
        assert [each.xid > row["xid"] for each in reading.rows] == [True]
        assert reading.open == [row["xid"]]
    reading = await store.read_feed(wanted.xid + 1, 10)
    assert len(reading.rows) == 2
    assert reading.open == []
    assert [each.xid for each in await store.read_late_feed([row["xid"], 3])] == [row["xid"]]


async def test_a_reading_is_bounded_but_never_cuts_a_transaction(stores):
    store = FeedStore(stores.source)
    wanted = await want(stores)
    await stores.insert(new_job())
    async with stores.transaction() as together:
        for _ in range(3):
            await together.insert(new_job())
    await stores.insert(new_job())
    reading = await store.read_feed(wanted.xid + 1, 2)
    assert reading.full
    assert [len(row.entries) for row in reading.rows] == [1, 3]
    assert [len(row.entries) for row in (await store.read_feed(wanted.xid + 1, 9, reading.rows[1].xid)).rows] == [1]


@pytest.mark.parametrize(("hours", "kept"), [(0, True), (1, True), (2, True), (3, False)])
async def test_a_place_is_good_while_something_as_old_is_kept(stores, hours, kept):
    store = FeedStore(stores.source)
    wanted = await want(stores)
    assert not (await store.read_feed(wanted.xid - 1, 10)).kept
    hour = dt.timedelta(hours=hours)
    await stores.execute(
        "update quarterdeck.feed set at = date_trunc('hour', at) - $1::interval + interval '1 s'", hour
    )
    assert (await store.read_feed(wanted.xid, 10)).kept is kept
    assert (await store.read_feed(wanted.xid + 1, 10)).kept is kept


async def test_prune_forgets_what_is_two_hours_old(stores):
    store = FeedStore(stores.source)
    for hours in range(3):
        await stores.execute(
            """insert into quarterdeck.feed (slot, at, events)
            select quarterdeck.feed_slot(m), m, '[]' from (select now() - make_interval(hours => $1) as m) m""",
            hours,
        )
    assert await store.prune_feed()
    assert not await store.prune_feed()
    ages = await stores.fetch("select now() - at < interval '90 minutes' as young from quarterdeck.feed")
    assert [row["young"] for row in ages] == [True, True]


# --- settling


async def test_a_statement_that_does_not_know_yet_is_waited_for(stores):
    """It waits for a lock, with a snapshot from before anybody wanted the log; what it writes is not logged."""
    store = FeedStore(stores.source)
    job = await inserted(stores)
    async with stores.transaction() as open_one:
        await open_one.execute("select from quarterdeck.job for update")
        late = asyncio.create_task(stores.jobs.cancel_job(job.id, TENANT))
        await stores.until_somebody_waits()
        wanted = await want(stores)
        first = await store.feed_settled(wanted.xid, None)
        assert not first.statements
        assert not (await store.feed_settled(wanted.xid, first.at)).statements
    await late
    assert (await store.feed_settled(wanted.xid, first.at)).settled
    assert await log(stores) == ["[]"]


async def test_a_statement_that_has_written_nothing_yet_is_waited_for(stores):
    """Nothing is in progress but a statement with an old snapshot."""
    store = FeedStore(stores.source)
    job = await inserted(stores)
    slow = """with slow as materialized (select pg_sleep(1.5))
        update quarterdeck.job set priority = 1 from slow where id = $1"""
    late = asyncio.create_task(stores.execute(slow, job.id))

    async def runs():
        return await stores.fetch("select from pg_stat_activity where query like 'with slow%' and state = 'active'")

    await eventually(runs)
    wanted = await want(stores)
    first = await store.feed_settled(wanted.xid, None)
    assert (first.statements, first.settled, first.open) == (False, False, [])
    await late
    assert (await store.feed_settled(wanted.xid, first.at)).settled


async def test_transactions_of_other_databases_hold_up_nothing(stores, server_dsn):
    store = FeedStore(stores.source)
    elsewhere = await asyncpg.connect(server_dsn)
    try:
        async with elsewhere.transaction():
            await elsewhere.execute("select pg_current_xact_id()")
            wanted = await want(stores)
            found = await store.feed_settled(wanted.xid, None)
            assert (found.settled, found.open) == (True, [])
            assert (await store.read_feed(wanted.xid, 10)).open == []
    finally:
        await elsewhere.close()


async def test_a_transaction_that_is_older_is_told_apart(stores):
    """Its next statement will know; what it logs has its old number."""
    store = FeedStore(stores.source)
    async with stores.transaction() as open_one:
        (row,) = await open_one.fetch("select pg_current_xact_id()::text::bigint as xid")
        wanted = await want(stores)
        found = await store.feed_settled(wanted.xid, None)
        assert (found.statements, found.settled, found.open) == (True, False, [row["xid"]])
        # Of those that begin now, too, something older is in progress; they know all the same.
        busy = asyncio.create_task(stores.fetch("select pg_sleep(0.2), pg_current_xact_id()"))
        await asyncio.sleep(0.05)
        assert (await store.feed_settled(wanted.xid, found.at)).statements
        await busy
        await open_one.insert(new_job())
    assert (await store.feed_settled(wanted.xid, found.at)).settled
    assert len(await log(stores)) == 2


async def test_kinds_in_a_claim_are_still_respected(stores):
    await want(stores)
    await stores.insert(new_job())
    assert await stores.attempts.claim_jobs(QUEUE, 5, "worker", ["other"]) == []
    assert len(await stores.attempts.claim_jobs(QUEUE, 5, "worker", EVERY_KIND)) == 1
