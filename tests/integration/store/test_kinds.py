import asyncio

import pytest

from quarterdeck.domain.handler import Handler
from quarterdeck.domain.retry import RetryPolicy
from quarterdeck.domain.submission import KindDefaults
from tests.support.factories import open_stores


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def resize(width: int, height: int = 1): ...


def handler(kind, **defaults):
    return Handler(kind, resize, KindDefaults(**defaults))


async def test_a_kind_is_known_with_its_schema_and_its_defaults(stores):
    announced = handler("resize", queue="images", timeout=None, retry=RetryPolicy((1.0, 5.0)), tags=["a"])
    await stores.kinds.announce_kinds([announced, handler("plain")])
    assert await stores.kinds.list_kinds() == {"resize": announced.defaults, "plain": KindDefaults()}
    (row,) = await stores.fetch("select * from quarterdeck.kind where name = 'resize'")
    assert row["schema"] == announced.schema()
    assert row["first_seen"] == row["last_seen"]


async def test_a_kind_announced_again_has_its_new_defaults_and_keeps_its_age(stores):
    await stores.kinds.announce_kinds([handler("resize", queue="old")])
    await stores.kinds.announce_kinds([handler("resize", queue="new")])
    assert await stores.kinds.list_kinds() == {"resize": KindDefaults(queue="new")}
    (row,) = await stores.fetch("select * from quarterdeck.kind")
    assert row["first_seen"] < row["last_seen"]


async def test_kinds_that_others_announced_stay_known(stores):
    await stores.kinds.announce_kinds([handler("a")])
    await stores.kinds.announce_kinds([handler("b")])
    assert set(await stores.kinds.list_kinds()) == {"a", "b"}


async def test_a_process_without_handlers_announces_nothing(stores):
    await stores.kinds.announce_kinds([])
    assert await stores.kinds.list_kinds() == {}


async def test_processes_that_announce_the_same_kinds_do_not_lock_each_other_out(stores):
    kinds = [handler(f"k{number}") for number in range(50)]
    for _ in range(5):
        await asyncio.gather(*(stores.kinds.announce_kinds(each) for each in (kinds, kinds[::-1], kinds, kinds[::-1])))
    assert len(await stores.kinds.list_kinds()) == 50


async def test_kinds_of_a_newer_release_do_not_hide_the_others(stores):
    await stores.kinds.announce_kinds([handler("old")])
    await stores.execute(
        """insert into quarterdeck.kind (name, schema, defaults)
        values ('new', '{}', '{"queue": "q", "later": true, "retry": {"jitter": true, "budget": 5}}')"""
    )
    known = await stores.kinds.list_kinds()
    assert known == {"old": KindDefaults(), "new": KindDefaults(queue="q", retry=RetryPolicy(jitter=True))}


async def test_a_ping_is_answered_where_the_schema_is_and_fails_where_it_is_not(stores):
    await stores.kinds.ping()
    await stores.execute("drop table quarterdeck.kind")
    with pytest.raises(Exception, match="kind"):
        await stores.kinds.ping()
