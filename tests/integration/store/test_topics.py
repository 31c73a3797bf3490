import asyncio
import datetime as dt
import hashlib

import msgspec
import pytest

from quarterdeck.domain.errors import IdempotencyMismatch
from quarterdeck.domain.job import IdempotencyKey
from quarterdeck.domain.topic import KEPT, KEPT_SECONDS, NewMessage
from quarterdeck.store.topics import MAX_BYTES, NEWEST, Past, TopicStore
from tests.support.factories import open_stores

PLACE = ("acme", "news")


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


@pytest.fixture
def topics(stores):
    return TopicStore(stores.source)


def new(data, topic="news", tenant="acme"):
    return NewMessage(tenant, topic, msgspec.json.encode(data).decode())


def key(body=b"body", name="k"):
    return IdempotencyKey("acme", "POST", "/v1/topics/news/messages", name, hashlib.sha256(body).digest())


async def read(topics, after=0, limit=100, place=PLACE):
    """The last id of a topic, and its messages after some id as ids and values."""
    past = (await topics.read_messages({place: after}, limit))[place]
    return past.last, [(message.id, msgspec.json.decode(message.data)) for message in past.messages]


async def age(stores, seconds, upto=NEWEST):
    await stores.execute(
        "update quarterdeck.topic_message set at = at - make_interval(secs => $1) where id <= $2", seconds, upto
    )


async def ids(stores, topic="news"):
    rows = await stores.fetch("select id from quarterdeck.topic_message where topic = $1 order by id", topic)
    return [row["id"] for row in rows]


# publish_messages, read_messages


async def test_ids_grow_by_one_within_a_topic_in_the_order_of_the_group(topics):
    group = [new(1), new("x", "other"), new(2), new("y", "news", "else"), new(3), new("z", "other")]
    assert await topics.publish_messages(group) == [1, 1, 2, 1, 3, 2]
    assert await topics.publish_messages([new(4), new("w", "other")]) == [4, 3]
    assert await read(topics) == (4, [(1, 1), (2, 2), (3, 3), (4, 4)])
    assert await read(topics, place=("acme", "other")) == (3, [(1, "x"), (2, "z"), (3, "w")])
    assert await read(topics, place=("else", "news")) == (1, [(1, "y")])


async def test_what_was_published_is_read_as_it_was_and_with_its_time(stores, topics):
    text = '{"b": 1.50, "a": ["\\u0000", "\\ud800", "ü"]}'
    (before,) = await stores.fetch("select clock_timestamp() as now")
    await topics.publish_messages([NewMessage("acme", "news", text)])
    (after,) = await stores.fetch("select clock_timestamp() as now")
    (message,) = (await topics.read_messages({PLACE: 0}, 1))[PLACE].messages
    assert (message.id, bytes(message.data)) == (1, text.encode())
    assert before["now"] <= message.at <= after["now"]


async def test_a_group_is_published_whole_or_not_at_all(topics):
    with pytest.raises(Exception, match="invalid input syntax for type json"):
        await topics.publish_messages([new(1), NewMessage("acme", "news", "{")])
    assert await read(topics) == (0, [])


async def test_who_publishes_next_waits_for_the_commit_and_its_time_is_later(stores, topics):
    async with stores.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("insert into quarterdeck.topic (tenant, name, last) values ('acme', 'news', 1)")
        publishing = asyncio.create_task(topics.publish_messages([new(2)]))
        await stores.until_somebody_waits()
        now = await connection.fetchval("select clock_timestamp()")
        await connection.execute(
            "insert into quarterdeck.topic_message (tenant, topic, id, at, data) values ('acme', 'news', 1, $1, '1')",
            now,
        )
        await transaction.commit()
    assert await publishing == [2]
    (first, second) = (await topics.read_messages({PLACE: 0}, 10))[PLACE].messages
    assert first.at < second.at


async def test_groups_over_the_same_topics_in_any_order_never_block_each_other_for_good(topics):
    names = [f"t{number}" for number in range(20)]

    async def publish(order):
        for _ in range(10):
            await topics.publish_messages([new(0, name) for name in order])

    await asyncio.gather(publish(names), publish(names[::-1]), publish(names[10:] + names[:10]))
    pasts = await topics.read_messages({("acme", name): NEWEST for name in names}, 0)
    assert {past.last for past in pasts.values()} == {30}


async def test_several_topics_are_read_at_once_each_from_its_own_place(topics):
    await topics.publish_messages([new(number, topic) for topic in ("a", "b") for number in range(5)])
    afters = {("acme", "a"): 3, ("acme", "b"): 5, ("acme", "nothing"): 0, ("else", "a"): 0}
    pasts = await topics.read_messages(afters, 2)
    found = {place: (past.last, [message.id for message in past.messages]) for place, past in pasts.items()}
    assert found == {
        ("acme", "a"): (5, [4, 5]),
        ("acme", "b"): (5, []),
        ("acme", "nothing"): (0, []),
        ("else", "a"): (0, []),
    }
    assert await read(topics, place=("acme", "a"), limit=2) == (5, [(1, 0), (2, 1)])


async def test_the_last_id_alone_is_read_without_messages(topics):
    await topics.publish_messages([new(1)])
    assert await topics.read_messages({PLACE: NEWEST}, 100) == {PLACE: Past(1, [])}


async def test_a_reading_takes_no_more_than_so_many_bytes_and_at_least_one_message(topics):
    large = "x" * (MAX_BYTES // 4)
    await topics.publish_messages([new(large) for _ in range(6)] + [new("y" * 2 * MAX_BYTES)])
    sizes = [len((await read(topics, after))[1]) for after in (0, 4, 6)]
    assert sizes == [4, 3, 1]
    listed = [[message.id for message in await topics.list_messages(*PLACE, before, 10)] for before in (8, 7)]
    assert listed == [[7], [6, 5, 4, 3]]


async def test_only_the_latest_messages_and_none_over_an_hour_are_read(stores, topics):
    for _ in range(3):
        await topics.publish_messages([new(0) for _ in range(KEPT // 2)])
    last, found = await read(topics, limit=5)
    assert (last, [message_id for message_id, _ in found]) == (1500, [501, 502, 503, 504, 505])
    assert [message.id for message in await topics.list_messages(*PLACE, 503, 5)] == [502, 501]
    await age(stores, KEPT_SECONDS + 1, upto=1490)
    assert (await read(topics))[1] == [(message_id, 0) for message_id in range(1491, 1501)]
    assert [message.id for message in await topics.list_messages(*PLACE, NEWEST, 100)] == list(range(1500, 1490, -1))


# list_messages


async def test_messages_are_listed_newest_first_from_before_an_id(topics):
    await topics.publish_messages(
        [new(number) for number in range(1, 6)] + [new("x", "other"), new("y", tenant="else")]
    )
    assert [message.id for message in await topics.list_messages(*PLACE, NEWEST, 2)] == [5, 4]
    assert [message.id for message in await topics.list_messages(*PLACE, 4, 10)] == [3, 2, 1]
    assert await topics.list_messages(*PLACE, 1, 10) == []
    assert await topics.list_messages("acme", "nothing", NEWEST, 10) == []


# publish_once


async def test_a_key_publishes_once_and_gives_the_same_id_again(topics):
    assert await topics.publish_once(new(1), key()) == (1, False)
    await topics.publish_messages([new(2)])
    assert await topics.publish_once(new(1), key()) == (1, True)
    assert await topics.publish_once(new(1), key(name="other")) == (3, False)
    with pytest.raises(IdempotencyMismatch):
        await topics.publish_once(new(3), key(b"another body"))
    assert (await read(topics))[0] == 3


async def test_of_many_with_one_key_one_publishes(topics):
    answers = await asyncio.gather(*(topics.publish_once(new(1), key()) for _ in range(4)))
    assert sorted(answers) == [(1, False), (1, True), (1, True), (1, True)]


async def test_a_key_is_free_again_after_a_day(stores, topics):
    await topics.publish_once(new(1), key())
    await stores.execute("update quarterdeck.idempotency set created_at = now() - interval '25 hours'")
    assert await topics.publish_once(new(1), key()) == (2, False)


# prune_messages


async def test_what_is_too_old_goes_a_batch_at_a_time_and_the_topic_stays(stores, topics):
    await topics.publish_messages([new(0) for _ in range(10)])
    await age(stores, KEPT_SECONDS + 1, upto=7)
    assert [await topics.prune_messages([], 5) for _ in range(3)] == [5, 2, 0]
    assert await ids(stores) == [8, 9, 10]
    await age(stores, KEPT_SECONDS + 1)
    await topics.prune_messages([], 5)
    assert await ids(stores) == []
    assert await topics.publish_messages([new(0)]) == [11]


async def test_what_is_too_many_of_a_topic_goes_and_others_are_left(stores, topics):
    for topic in ("news", "other"):
        await topics.publish_messages([new(0, topic) for _ in range(KEPT + 7)])
    assert [await topics.prune_messages([PLACE, ("else", "news")], 5) for _ in range(3)] == [5, 2, 0]
    assert await ids(stores) == list(range(8, KEPT + 8))
    assert len(await ids(stores, "other")) == KEPT + 7


async def test_pruning_waits_for_nobody_and_nobody_waits_for_it(stores, topics):
    await topics.publish_messages([new(0) for _ in range(3)])
    await age(stores, KEPT_SECONDS + 1)
    async with stores.connection() as connection, connection.transaction():
        await connection.execute("select from quarterdeck.topic_message where id = 2 for update")
        assert await asyncio.wait_for(topics.prune_messages([PLACE], 10), 15) == 2
    async with stores.transaction() as pruning:
        assert await TopicStore(pruning.source).prune_messages([PLACE], 10) == 1
        assert await asyncio.wait_for(topics.publish_messages([new(0)]), 15) == [4]
    assert await ids(stores) == [4]


async def test_reading_writes_nothing(stores, topics):
    await topics.publish_messages([new(1)])
    async with stores.transaction() as readonly:
        await readonly.execute("set transaction read only")
        topics = TopicStore(readonly.source)
        assert (await read(topics))[0] == 1
        (message,) = await topics.list_messages(*PLACE, NEWEST, 10)
        assert message.at.utcoffset() == dt.timedelta(0)
