"""Topics: dense ids, followers that miss nothing, and what becomes of them where something is lost."""

import asyncio
import itertools
import random
from contextlib import asynccontextmanager
from time import monotonic

import asyncpg
import msgspec
import pytest

from quarterdeck.domain.errors import Draining, IdempotencyInFlight, IdempotencyMismatch, InvalidSubmit, Unavailable
from quarterdeck.domain.job import IdempotencyKey
from quarterdeck.domain.topic import KEPT, MAX_MESSAGE_BYTES, Gap
from quarterdeck.engine import message_pruner, publisher, topics
from quarterdeck.engine.calls import CALL_TIMEOUT, Calls
from quarterdeck.engine.tasks import Tasks
from quarterdeck.engine.topics import Topics
from quarterdeck.store import pool
from quarterdeck.store.queries import SQL
from quarterdeck.store.topics import TopicStore
from quarterdeck.telemetry.metrics import Metrics
from tests.support.faults.proxy import FaultyProxy
from tests.support.faults.rules import LoseReply, Refuse
from tests.support.waiting import eventually

ACME = "acme"
AT_ONCE = 0.3
"""Seconds that are less than a poll takes."""


class Process(Topics):
    """The topics of one process, and what they told and did."""

    announced: list
    readings: list
    reading: int = 0


@asynccontextmanager
async def process(dsn, command_timeout=8.0):
    connections = await pool.open_pool(dsn, name=pool.API, size=4, command_timeout=command_timeout)
    calls, announced, readings = Calls(), [], []
    calls.open()

    class Store(TopicStore):
        async def read_messages(self, afters, limit):
            readings.append(dict(afters))
            made.reading += 1
            try:
                return await super().read_messages(afters, limit)
            finally:
                made.reading -= 1

    made = Process(Store(connections), calls=calls, meter=Metrics("0"), announce=lambda *it: announced.append(it))
    made.announced, made.readings = announced, readings
    tasks = Tasks()
    for name, loop in made.loops():
        tasks.spawn(name, loop())
    try:
        yield made
        assert tasks.deaths == []
    finally:
        await made.close(1.0)
        await tasks.cancel()
        await calls.close()
        await pool.close_pool(connections)


@pytest.fixture
async def here(database_url):
    async with process(database_url) as made:
        yield made


@pytest.fixture
async def there(database_url):
    async with process(database_url) as made:
        yield made


@pytest.fixture
def no_polling(monkeypatch):
    monkeypatch.setattr(topics, "POLL", 3600.0)


def encoded(value):
    return msgspec.json.encode(value)


async def publish(process, *values, topic="news", tenant=ACME):
    return [await process.publish(tenant, topic, encoded(value)) for value in values]


def facts(items):
    return [item if isinstance(item, Gap) else (item.id, msgspec.json.decode(item.data)) for item in items]


async def taken(following, count, most=100):
    """The next `count` items, as they come."""
    items = []

    async def came():
        items.extend(facts(await following.take(most)))
        return len(items) >= count

    await eventually(came)
    return items


def has_read(process):
    return not process._behind and not process.reading


async def follow(process, after=None, topic="news", tenant=ACME, ready=lambda: None):
    return await process.follow(tenant, topic, after, ready)


async def somebody_waits(connection):
    """Wait until a statement waits for a lock that `connection` holds."""

    async def waits():
        return await connection.fetchval(
            "select exists (select from pg_stat_activity where pg_backend_pid() = any(pg_blocking_pids(pid)))"
        )

    await eventually(waits)


# Publishing


async def test_ids_are_dense_whoever_publishes_where(here, there):
    async def publish_some(process, number):
        return await publish(process, *[(number, each) for each in range(10)])

    some = [publish_some(process, number) for number, process in enumerate([here, there] * 25)]
    ids = await asyncio.gather(*some)
    assert sorted(itertools.chain(*ids)) == list(range(1, 501))
    past = await here.after(ACME, "news", 0, 500)
    stored = {message.id: tuple(msgspec.json.decode(message.data)) for message in past.messages}
    assert all(
        stored[message_id] == (number, each) for number, own in enumerate(ids) for each, message_id in enumerate(own)
    )
    times = [message.at for message in past.messages]
    assert times == sorted(times)


async def test_publishers_at_the_same_time_share_commits(here, monkeypatch):
    groups = []
    publish_messages = TopicStore.publish_messages

    async def counting(self, messages):
        groups.append(len(messages))
        return await publish_messages(self, messages)

    monkeypatch.setattr(TopicStore, "publish_messages", counting)
    ids = await asyncio.gather(*(here.publish(ACME, f"t{number % 10}", b"1") for number in range(400)))
    assert sorted(ids) == sorted([*range(1, 41)] * 10)
    assert len(groups) <= 5
    groups.clear()
    large = encoded("x" * (MAX_MESSAGE_BYTES - 2))
    await asyncio.gather(*(here.publish(ACME, "large", large) for _ in range(40)))
    assert max(groups) <= publisher.MAX_GROUP_CHARACTERS // MAX_MESSAGE_BYTES + 1


async def test_no_more_is_taken_than_may_wait(here, monkeypatch):
    monkeypatch.setattr(publisher, "INTAKE_CHARACTERS", 10)
    outcomes = await asyncio.gather(*(here.publish(ACME, "news", b"12345") for _ in range(5)), return_exceptions=True)
    assert outcomes[:2] == [1, 2]
    assert {type(outcome) for outcome in outcomes[2:]} == {Unavailable}
    assert await publish(here, 1, 2, 3, 4, 5) == [3, 4, 5, 6, 7]


async def test_tenants_have_topics_of_their_own(here):
    following = await follow(here, 0, tenant="else")
    assert await publish(here, 1, 2) == [1, 2]
    assert await publish(here, "x", tenant="else") == [1]
    assert await taken(following, 1) == [(1, "x")]
    assert [message.id for message in await here.before(ACME, "news", 2, 10)] == [1]
    assert (await here.after("nobody", "news", 0, 10)).last == 0


async def test_each_commit_is_announced_once_a_topic_and_after_it(here):
    async def look():
        await eventually(lambda: here.announced)
        return [message.id for message in await here.before(ACME, "news", 100, 10)]

    looking = asyncio.create_task(look())
    await asyncio.gather(*(here.publish(ACME, "news", b"1") for _ in range(5)), here.publish(ACME, "other", b"1"))
    assert await looking
    assert set(here.announced) == {(ACME, "news"), (ACME, "other")}
    assert len(here.announced) < 6


@pytest.mark.parametrize(
    ("name", "data", "pointers"),
    [
        ("-a", b"1", ["/topic"]),
        ("a" * 129, b"1", ["/topic"]),
        ("a\n", b"1", ["/topic"]),
        ("a", b'"' + b"x" * (MAX_MESSAGE_BYTES - 1) + b'"', ["/data"]),
        ("", b"1" * (MAX_MESSAGE_BYTES + 1), ["/topic", "/data"]),
    ],
)
async def test_what_cannot_be_published_is_refused(here, name, data, pointers):
    with pytest.raises(InvalidSubmit) as refused:
        await here.publish(ACME, name, data)
    assert [error.pointer for error in refused.value.errors] == pointers


async def test_the_largest_message_and_raw_json_are_published(here):
    data = b'"' + b"x" * (MAX_MESSAGE_BYTES - 2) + b'"'
    following = await follow(here)
    await here.publish(ACME, "news", msgspec.Raw(data))
    await eventually(lambda: following.pending)
    (message,) = await following.take()
    assert bytes(message.data) == data


async def test_one_that_the_database_refuses_spoils_no_other(here):
    datas = [b"1", b"{", b"2", b"\x00", b"3"]
    outcomes = await asyncio.gather(*(here.publish(ACME, "news", data) for data in datas), return_exceptions=True)
    assert [outcomes[index] for index in (0, 2, 4)] == [1, 2, 3]
    assert [type(outcomes[index]) for index in (1, 3)] == [InvalidSubmit] * 2


async def test_a_statement_that_lost_against_another_is_repeated(here, monkeypatch):
    publish_messages = TopicStore.publish_messages
    failures = [asyncpg.DeadlockDetectedError("x"), asyncpg.InvalidCachedStatementError("x")]

    async def failing(self, messages):
        if failures:
            raise failures.pop()
        return await publish_messages(self, messages)

    monkeypatch.setattr(TopicStore, "publish_messages", failing)
    assert await publish(here, 1) == [1]


async def test_after_a_lost_reply_the_caller_hears_of_it_and_nothing_is_published_twice(database_url):
    async with FaultyProxy(database_url, seed=1) as link, process(link.dsn) as here:
        following = await follow(here)
        await publish(here, 1)
        lost = link.switch_on(LoseReply(statement=SQL["publish_messages"], times=1))
        with pytest.raises(Unavailable):
            await publish(here, 2)
        assert lost.hits == 1
        assert await publish(here, 3) == [3]
        assert await taken(following, 3) == [(1, 1), (2, 2), (3, 3)]


async def test_with_a_key_a_lost_reply_can_be_repeated(database_url):
    async with FaultyProxy(database_url, seed=1) as link, process(link.dsn) as here:
        following = await follow(here)
        link.switch_on(LoseReply(statement="COMMIT", times=1))
        with pytest.raises(Unavailable):
            await here.publish_once(ACME, "news", b"1", key())
        assert await here.publish_once(ACME, "news", b"1", key()) == (1, True)
        assert await taken(following, 1) == [(1, 1)]


def key(body=b"body"):
    return IdempotencyKey(ACME, "POST", "/v1/topics/news/messages", "k", body)


async def test_a_key_is_used_once_at_a_time_and_for_one_message(here):
    outcomes = await asyncio.gather(
        *(here.publish_once(ACME, "news", b"1", key()) for _ in range(5)), return_exceptions=True
    )
    assert outcomes[0] == (1, False)
    assert {type(outcome) for outcome in outcomes[1:]} == {IdempotencyInFlight}
    with pytest.raises(IdempotencyMismatch):
        await here.publish_once(ACME, "news", b"2", key(b"other"))
    assert await here.publish_once(ACME, "news", b"1", key()) == (1, True)
    assert here.announced == [(ACME, "news")]


async def test_without_a_database_publishing_and_following_end_in_time(database_url):
    async with FaultyProxy(database_url, seed=1) as link, process(link.dsn, command_timeout=1.0) as here:
        await publish(here, 1)
        link.switch_on(Refuse())
        link.reset()
        began = monotonic()
        for ask in (publish(here, 2), follow(here), here.after(ACME, "news", 0, 1), here.before(ACME, "news", 9, 1)):
            with pytest.raises(Unavailable):
                await ask
        assert monotonic() - began < 4 * CALL_TIMEOUT + 10


async def test_who_waits_for_a_locked_topic_is_told_in_time_and_not_served_later(here, connection):
    await publish(here, 1)
    async with connection.transaction():
        await connection.execute("select from quarterdeck.topic for update")
        began = monotonic()
        first = asyncio.create_task(here.publish(ACME, "news", b"2"))
        await somebody_waits(connection)  # the second waits for the first's commit, and is never sent
        with pytest.raises(Unavailable):
            await here.publish(ACME, "news", b"3")
        with pytest.raises(Unavailable):
            await first
        assert monotonic() - began < 1.9 * CALL_TIMEOUT, "the second's time did not begin when the first's was over"
    assert (await publish(here, 4))[0] == 3


async def test_after_close_nothing_is_published_and_what_was_taken_is(here):
    publishing = [asyncio.create_task(here.publish(ACME, "news", b"1")) for _ in range(10)]
    await asyncio.sleep(0)
    await here.close(5.0)
    assert await asyncio.gather(*publishing) == list(range(1, 11))
    with pytest.raises(Draining):
        await here.publish(ACME, "news", b"1")
    with pytest.raises(Draining):
        await here.publish_once(ACME, "news", b"1", key())


# Following


async def test_who_joins_at_random_misses_nothing_and_sees_nothing_older(here, there):
    numbers = random.Random(5)
    published, enough, over = [], asyncio.Event(), asyncio.Event()

    async def keep_publishing(process):
        while not enough.is_set():
            published.extend(await publish(process, "x"))
            await asyncio.sleep(numbers.random() / 100)

    async def join(process, after):
        await eventually(lambda: published)
        await asyncio.sleep(numbers.random())
        known = max(published)
        following = await follow(process, known if after == "known" else after)
        start = following.last
        assert start >= known if after is None else start == (known if after == "known" else 0)
        found = []
        while not over.is_set() or not found or found[-1] < max(published):
            found += [item.id for item in await following.take(numbers.randint(1, 9))]
            await asyncio.sleep(0.001)
        following.close()
        return start, found

    publishers = [asyncio.create_task(keep_publishing(process)) for process in (here, there, here)]
    joined = [asyncio.create_task(join(*each)) for each in itertools.product([here, there], [None, 0, "known"] * 5)]
    await asyncio.sleep(1.5)
    enough.set()
    await asyncio.gather(*publishers)
    over.set()
    for start, found in await asyncio.gather(*joined):
        assert found == list(range(start + 1, max(published) + 1))
    assert here.followed == there.followed == 0


async def test_what_is_published_here_comes_at_once_and_to_all_by_one_reading(here, no_polling):
    told = []
    followings = [await follow(here, ready=lambda number=number: told.append(number)) for number in range(20)]
    await eventually(lambda: has_read(here))
    here.readings.clear()
    assert not any(following.pending for following in followings)
    await publish(here, "a")
    await eventually(lambda: all(following.pending for following in followings))
    assert sorted(told) == list(range(20))
    assert [facts(await following.take()) for following in followings] == [[(1, "a")]] * 20
    assert here.readings == [{(ACME, "news"): 0}]
    assert not any(following.pending for following in followings)
    assert await followings[0].take() == []


async def test_what_is_published_elsewhere_comes_by_a_hint(here, there, no_polling):
    following = await follow(here)
    await eventually(lambda: has_read(here))
    there_ids = await publish(there, "a", "b")
    assert not following.pending
    here.hinted(ACME, "other")
    here.hinted("else", "news")
    here.hinted(ACME, "news")
    assert there_ids == [1, 2]
    assert await taken(following, 2) == [(1, "a"), (2, "b")]


async def test_what_is_published_elsewhere_comes_without_a_hint_by_one_statement(here, there):
    followings = [await follow(here, topic=f"t{number}") for number in range(50)]
    here.readings.clear()
    began = monotonic()
    await asyncio.gather(*(publish(there, number, topic=f"t{number}") for number in range(50)))
    for number, following in enumerate(followings):
        assert await taken(following, 1) == [(1, number)]
    await eventually(lambda: {len(afters) for afters in here.readings} >= {50})
    assert len(here.readings) <= 3 + (monotonic() - began) / topics.POLL


async def test_of_more_topics_than_one_reading_takes_those_with_news_are_read(here, there, monkeypatch):
    monkeypatch.setattr(topics, "MAX_TOPICS", 10)
    followings = [await follow(here, topic=f"t{number}") for number in range(50)]
    await eventually(lambda: has_read(here))
    here.readings.clear()
    await publish(there, "a", topic="t7")
    await publish(there, "b", topic="t33")
    assert await taken(followings[7], 1) == [(1, "a")]
    assert await taken(followings[33], 1) == [(1, "b")]
    sizes = [len(afters) for afters in here.readings]
    assert 50 in sizes
    assert max(size for size in sizes if size != 50) <= 2


async def test_without_followers_nothing_is_read(here, there):
    following = await follow(here)
    following.close()
    following.close()
    assert here.followed == 0
    await asyncio.sleep(topics.POLL + AT_ONCE)  # whatever was under way is over
    here.readings.clear()
    await publish(here, 1)
    here.hinted(ACME, "news")
    await asyncio.sleep(2 * topics.POLL)
    assert here.readings == []
    assert here._behind == {}
    with await follow(here, 0) as following:
        assert await taken(following, 1) == [(1, 1)]
    assert here.followed == 0


async def test_one_that_leaves_takes_nothing_from_the_others(here):
    first, second = await follow(here), await follow(here)
    first.close()
    await publish(here, 1)
    assert await taken(second, 1) == [(1, 1)]


async def test_who_asks_for_what_is_kept_gets_it_and_goes_on(here, there):
    await publish(there, *range(1, 301))
    following = await follow(here, 5)
    assert following.pending
    found = []
    while following.pending:
        some = facts(await following.take(50))
        assert len(some) <= 50
        found += some
    await publish(there, 301)
    found += await taken(following, 1)
    assert found == [(number, number) for number in range(6, 302)]
    assert following.last == 301


async def test_who_is_further_behind_than_is_kept_here_reads_for_itself(here, monkeypatch):
    monkeypatch.setattr(topics, "MAX_KEPT", 10)
    slow, fast = await follow(here), await follow(here)
    for number in range(1, 41):
        await publish(here, number)
        assert await taken(fast, 1) == [(number, number)]
    assert len(slow.stream._kept) == 10
    found = []
    while slow.pending:
        found += facts(await slow.take(7))
    assert found == [(number, number) for number in range(1, 41)]


async def test_what_is_kept_here_is_bounded_in_bytes_too(here, monkeypatch):
    monkeypatch.setattr(topics, "MAX_KEPT_BYTES", 1000)
    following = await follow(here)
    await publish(here, *["x" * 300 for _ in range(20)])
    await eventually(lambda: following.stream.last == 20)
    assert 1 <= len(following.stream._kept) <= 5
    assert [message_id for message_id, _ in await taken(following, 20)] == list(range(1, 21))


async def test_a_burst_larger_than_a_reading_comes_whole_and_at_once(here, there, no_polling):
    following = await follow(here)
    await asyncio.gather(*(there.publish(ACME, "news", b"1") for _ in range(350)))
    here.hinted(ACME, "news")
    found = []
    while len(found) < 350:
        found += [message_id for message_id, _ in await taken(following, 1)]
    assert found == list(range(1, 351))


async def test_who_comes_back_after_more_than_is_kept_gets_a_gap_first(here, there, connection):
    await asyncio.gather(*(there.publish(ACME, "news", b"1") for _ in range(KEPT + 20)))
    following = await follow(here, 5)
    assert facts(await following.take(3)) == [Gap(20), (21, 1), (22, 1)]
    assert facts(await (await follow(here, 20)).take(1)) == [(21, 1)]
    await connection.execute("update quarterdeck.topic_message set at = at - interval '61 minutes'")
    following = await follow(here, 5)
    assert facts(await following.take()) == [Gap(KEPT + 20)]
    assert not following.pending
    await publish(there, 2)
    assert await taken(following, 1) == [(KEPT + 21, 2)]


async def test_who_asks_for_nothing_older_gets_nothing_older_than_the_others_here_know(here, there, no_polling):
    first = await follow(here)
    await eventually(lambda: has_read(here))
    await publish(there, 1)
    second = await follow(here)
    assert second.last == 1
    assert await taken(first, 1) == [(1, 1)]
    assert not second.pending
    await publish(there, 2)
    here.hinted(ACME, "news")
    assert await taken(second, 1) == [(2, 2)]


async def test_who_begins_behind_is_told_at_once(here, there, no_polling):
    await publish(there, 1)
    for _ in range(2):  # the first to follow, and one more
        told = asyncio.Event()
        following = await follow(here, 0, ready=told.set)
        await asyncio.wait_for(told.wait(), 15)
        assert facts(await following.take()) == [(1, 1)]


async def test_what_was_missed_here_is_no_part_of_what_is_kept_here(here, there, no_polling, connection):
    following = await follow(here)
    for last in (3, 7):
        await publish(there, *range(4))
        await connection.execute("delete from quarterdeck.topic_message where id < $1 and $1 > 3", last)
        here.hinted(ACME, "news")
        await eventually(lambda: following.stream.last > last)  # noqa: B023 - called at once
        if last == 3:
            assert facts(await following.take(1)) == [(1, 0)]
    assert facts(await following.take()) == [Gap(6), (7, 2), (8, 3)]


async def test_who_fell_behind_what_is_kept_while_following_gets_a_gap(here, there, no_polling, connection):
    following = await follow(here)
    await publish(there, *range(1, 11))
    await connection.execute("delete from quarterdeck.topic_message where id < 8")
    here.hinted(ACME, "news")
    await eventually(lambda: following.pending)
    assert facts(await following.take(2)) == [Gap(7), (8, 8)]
    await connection.execute("delete from quarterdeck.topic_message")
    await publish(there, 11)
    await connection.execute("delete from quarterdeck.topic_message")
    here.hinted(ACME, "news")
    await eventually(lambda: following.stream.last == 11)
    assert facts(await following.take()) == [Gap(11)]
    await publish(there, 12)
    here.hinted(ACME, "news")
    assert await taken(following, 1) == [(12, 12)]


async def test_who_was_further_than_the_topic_ever_was_gets_a_gap(here):
    await publish(here, 1, 2)
    following = await follow(here, 7)
    assert (following.last, following.pending) == (2, True)
    assert facts(await following.take()) == [Gap(2)]
    await publish(here, 3)
    assert await taken(following, 1) == [(3, 3)]
    assert not (await follow(here, 3)).pending


async def test_followers_of_a_database_that_has_lost_messages_hear_of_it(here, connection):
    await publish(here, 1, 2, 3)
    ahead, behind = await follow(here), await follow(here, 0)
    assert facts(await behind.take(1)) == [(1, 1)]
    await connection.execute("delete from quarterdeck.topic_message where id > 1")
    await connection.execute("update quarterdeck.topic set last = 1")
    assert await taken(ahead, 1) == [Gap(1)]
    await publish(here, "new")
    assert await taken(ahead, 1) == [(2, "new")]
    assert await taken(behind, 1) == [(2, "new")]


async def test_followers_outlast_an_outage(database_url, there):
    async with FaultyProxy(database_url, seed=1) as link, process(link.dsn, command_timeout=1.0) as here:
        following = await follow(here)
        refused = link.switch_on(Refuse())
        link.reset()
        await publish(there, 1)
        await eventually(lambda: refused.hits)
        link.heal()
        assert await taken(following, 1) == [(1, 1)]


async def test_a_follow_that_is_given_up_leaves_nothing(here, connection):
    async with connection.transaction():
        await connection.execute("lock quarterdeck.topic")
        following = asyncio.create_task(follow(here))
        await somebody_waits(connection)
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following
    assert here.followed == 0


# Pruning


async def test_what_is_too_many_is_pruned_by_who_published_it(here, connection, monkeypatch):
    monkeypatch.setattr(message_pruner, "SURPLUS", 50)
    for _ in range(3):
        await asyncio.gather(*(here.publish(ACME, "news", b"1") for _ in range(400)))
    await publish(here, *range(50))

    async def pruned():
        first = await connection.fetchval("select min(id) from quarterdeck.topic_message")
        return first >= 200

    await eventually(pruned)
    assert [message.id for message in (await here.after(ACME, "news", 0, 1)).messages] == [251]


async def test_what_is_too_old_is_pruned_without_anything_being_published(database_url, connection, monkeypatch):
    await connection.execute("""
        insert into quarterdeck.topic_message (tenant, topic, id, at, data)
        select 't', 'old', n, now() - interval '2 hours', '1' from generate_series(1, 2500) n
    """)
    monkeypatch.setattr(message_pruner, "EVERY", 0.1)
    async with process(database_url):

        async def pruned():
            return not await connection.fetchval("select exists (select from quarterdeck.topic_message)")

        await eventually(pruned)
