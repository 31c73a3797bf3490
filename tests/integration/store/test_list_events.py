import json

import pytest

from quarterdeck.store import job_list
from quarterdeck.store.job_list import JobListStore
from tests.support.factories import new_job, open_stores


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


@pytest.fixture
async def job(stores):
    """A job with 30 events: of each three one is a log line and one is an output."""
    job, other = new_job(), new_job()
    await stores.insert(job, other)
    for each, last in ((job, 30), (other, 3)):
        await stores.execute(
            """
            insert into quarterdeck.job_event (job_id, queue, seq, generation, attempt, event, data)
            select $1, 'default', n, 1 + n / 20, 1 + n % 2, (array['progress', 'log', 'output'])[n % 3 + 1],
              json_build_object('n', n) from generate_series(1, $2::integer) n
            """,
            each.id,
            last,
        )
    return job


async def pages(stores, job, limit, event="log"):
    found, before = [], None
    while True:
        page = await JobListStore(stores.source).list_events(job.id, "default", event, limit, before)
        found.append([item.seq for item in page.items])
        if page.end is None:
            return found
        before = page.end


async def test_events_of_one_sort_come_newest_first_with_where_they_come_from(stores, job):
    page = await JobListStore(stores.source).list_events(job.id, "default", "output", 2, None)
    newest, older = page.items
    assert (newest.seq, newest.generation, newest.attempt, json.loads(bytes(newest.data))) == (29, 2, 2, {"n": 29})
    assert (older.seq, page.end) == (26, 26)
    assert newest.at.tzinfo is not None


@pytest.mark.parametrize("limit", [1, 3, 9, 10, 11])
async def test_pages_hold_every_event_once(stores, job, limit):
    found = await pages(stores, job, limit)
    assert [seq for page in found for seq in page] == list(range(28, 0, -3))
    assert found[-1]


@pytest.mark.parametrize("rows", [1, 2, 4])
async def test_no_budget_loses_or_repeats_an_event(stores, job, monkeypatch, rows):
    monkeypatch.setattr(job_list, "MAX_ROWS", rows)
    found = await pages(stores, job, 5)
    assert [seq for page in found for seq in page] == list(range(28, 0, -3))
    assert len(found) >= 30 // rows


async def test_a_page_ends_where_its_bytes_are_spent(stores, job, monkeypatch):
    monkeypatch.setattr(job_list, "MAX_BYTES", 20)
    found = await pages(stores, job, 5)
    assert [seq for page in found for seq in page] == list(range(28, 0, -3))
    assert max(len(page) for page in found) == 2


async def test_there_may_be_none(stores, job):
    assert await pages(stores, new_job(), 5) == [[]]
    assert await pages(stores, job, 5, "nothing") == [[]]
