import datetime as dt
import json
import uuid

import pytest

from quarterdeck.domain.listing import JobFilter
from quarterdeck.domain.state import State
from quarterdeck.store import job_list
from quarterdeck.store.job_list import JobListStore
from tests.support.factories import new_id, new_job, open_stores

WORKFLOW = uuid.UUID(int=9)


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def page(stores, limit=50, before=None, tenant="default", **wanted):
    return await JobListStore(stores.source).list_jobs(JobFilter(**wanted).checked(), tenant, limit, before)


async def ids(stores, **options):
    return [job.id for job in (await page(stores, **options)).items]


async def pages(stores, limit, **wanted):
    """All pages, from the first to the last."""
    found, before = [], None
    while True:
        one = await page(stores, limit, before, **wanted)
        found.append([job.id for job in one.items])
        assert len(found[-1]) <= limit
        if one.end is None:
            return found
        before = uuid.UUID(int=one.end)


@pytest.fixture
async def some(stores):
    """Jobs of different sorts, in the order of their ids: half of them have ended."""
    jobs = [
        new_job(
            kind="other" if number % 3 == 0 else "echo",
            queue="slow" if number % 4 == 0 else "default",
            tags=["even", "all"] if number % 2 == 0 else ["all"],
            args={"number": number, "parity": {"odd": number % 2 == 1}},
        )
        for number in range(12)
    ]
    await stores.insert(*jobs)
    for queue in ("default", "slow"):
        claimed = await stores.claim("w", 3, queue=queue)
        await stores.finish(*claimed)
    await stores.execute("update quarterdeck.job set state = 'scheduled' where args->>'number' = '11'")
    return [job.id for job in jobs]


async def test_jobs_of_both_tables_come_newest_first_as_they_are(stores, some):
    listed = await page(stores)
    assert [job.id for job in listed.items] == some[::-1]
    assert listed.end is None
    assert {job.id: job for job in listed.items} == await stores.jobs.get_jobs(some)
    assert {job.terminal for job in listed.items} == {True, False}


@pytest.mark.parametrize("limit", [1, 2, 5, 11, 12, 13])
async def test_pages_hold_every_job_once(stores, some, limit):
    listed = await pages(stores, limit)
    assert [job_id for one in listed for job_id in one] == some[::-1]
    assert listed[-1] != []


async def test_an_empty_list_is_one_empty_page(stores):
    assert await pages(stores, 5) == [[]]


async def numbers(stores, **wanted):
    """The numbers of jobs that fit, by what PostgreSQL says of each, and of those that are listed."""
    return [job.args["number"] for job in (await page(stores, **wanted)).items]


async def test_filters_narrow_the_list(stores, some, subtests):
    for wanted, fits in [
        ({"kind": "other"}, lambda n: n % 3 == 0),
        ({"queue": "slow"}, lambda n: n % 4 == 0),
        ({"tags": ("even",)}, lambda n: n % 2 == 0),
        ({"tags": ("even", "all")}, lambda n: n % 2 == 0),
        ({"tags": ("all",), "queue": "slow", "kind": "other"}, lambda n: n % 12 == 0),
        ({"kind": "echo", "args": {"number": 4}}, lambda n: n == 4),
        ({"queue": "slow", "args": {"parity": {"odd": False}}}, lambda n: n % 4 == 0),
        ({"queue": "default", "args": {}}, lambda n: n % 4 != 0),
        ({"queue": "default", "args": {"number": "4"}}, lambda _: False),
        ({"states": (State.SCHEDULED,)}, lambda n: n == 11),
        ({"tags": ("none",)}, lambda _: False),
    ]:
        with subtests.test(str(wanted)):
            assert await numbers(stores, **wanted) == [number for number in range(11, -1, -1) if fits(number)]


async def test_states_choose_among_both_tables(stores, some):
    ended = {row["id"] for row in await stores.fetch("select id from quarterdeck.job_history")}
    assert len(ended) == 6
    assert set(await ids(stores, states=(State.COMPLETED,))) == ended
    assert set(await ids(stores, states=(State.AVAILABLE, State.SCHEDULED))) == set(some) - ended
    assert set(await ids(stores, states=(State.COMPLETED, State.SCHEDULED))) == ended | {some[11]}
    assert await ids(stores, states=(State.CANCELLED, State.RETRYABLE)) == []


async def test_running_jobs_are_found_below_any_backlog(stores, monkeypatch):
    monkeypatch.setattr(job_list, "MAX_ROWS", 3)
    running = await stores.running()
    await stores.insert(*(new_job() for _ in range(10)))
    assert await ids(stores, states=(State.RUNNING,)) == [running.id]


async def test_other_tenants_are_not_there(stores):
    mine, theirs = new_job(), new_job(tenant="acme")
    await stores.insert(mine, theirs)
    assert await ids(stores) == [mine.id]
    assert await ids(stores, tenant="acme") == [theirs.id]
    assert await ids(stores, tenant="acme", queue="default", args={}) == [theirs.id]


async def test_a_workflow_is_listed_by_its_id(stores, some):
    await stores.execute("update quarterdeck.job set workflow_id = $1 where args->>'number' in ('9', '10')", WORKFLOW)
    await stores.execute("alter table quarterdeck.job_history disable trigger job_history_is_final")
    await stores.execute("update quarterdeck.job_history set workflow_id = $1 where args->>'number' = '1'", WORKFLOW)
    found = await page(stores, workflow_id=WORKFLOW)
    assert [job.args["number"] for job in found.items] == [10, 9, 1]
    assert {job.workflow_id for job in found.items} == {WORKFLOW}
    assert await ids(stores, workflow_id=uuid.UUID(int=8)) == []


async def test_times_are_those_of_the_row_where_the_id_is_a_little_off(stores):
    noon = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(hours=1)
    second = dt.timedelta(seconds=1)
    # Made by a clock that was five seconds ahead, or behind.
    ahead = new_job(id=new_id(noon + 5 * second))
    behind = new_job(id=new_id(noon - 5 * second))
    await stores.insert(ahead, behind)
    await stores.execute("update quarterdeck.job set created_at = $1", noon)
    both = {ahead.id, behind.id}
    assert set(await ids(stores, created_after=noon)) == both
    assert set(await ids(stores, created_before=noon + second)) == both
    assert set(await ids(stores, created_after=noon, created_before=noon + second)) == both
    assert await ids(stores, created_before=noon) == []
    assert await ids(stores, created_after=noon + second) == []


async def test_a_page_ends_where_its_rows_are_spent_and_the_next_one_goes_on(stores, some, monkeypatch):
    monkeypatch.setattr(job_list, "MAX_ROWS", 2)
    listed = await pages(stores, 50)
    assert [job_id for one in listed for job_id in one] == some[::-1]
    assert len(listed) > 3
    assert max(len(one) for one in listed) <= 4, "two rows of each table"


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 7])
async def test_no_budget_loses_or_repeats_a_job(stores, some, monkeypatch, rows):
    monkeypatch.setattr(job_list, "MAX_ROWS", rows)
    listed = await pages(stores, 2, tags=("even",))
    assert [job_id for one in listed for job_id in one] == some[10::-2]
    nothing = await pages(stores, 2, kind="none")
    assert not any(nothing)
    assert len(nothing) >= 6 // rows, "empty pages, with a next"


async def test_a_page_ends_where_its_bytes_are_spent(stores, monkeypatch):
    jobs = [new_job(args={"text": json.dumps([uuid.uuid4().hex for _ in range(300)])}) for _ in range(6)]
    await stores.insert(*jobs)
    monkeypatch.setattr(job_list, "MAX_BYTES", 20_000)
    listed = await pages(stores, 50)
    assert [job_id for one in listed for job_id in one] == [job.id for job in reversed(jobs)]
    assert [len(one) for one in listed[:2]] == [2, 2]
    # Rows that a cheap filter leaves out weigh nothing; large values are looked at only within the budget.
    assert len(await pages(stores, 50, kind="none")) == 1
    sparse = await pages(stores, 50, queue="default", args={"text": "no"})
    assert len(sparse) > 1
    assert not any(sparse)


async def test_a_job_that_ends_between_two_pages_is_not_missed(stores):
    first, second = new_job(), new_job()
    await stores.insert(first, second)
    one = await page(stores, 1)
    claimed = await stores.claim("w")
    await stores.finish(*claimed)
    rest = await page(stores, 5, uuid.UUID(int=one.end))
    assert [job.id for job in (*one.items, *rest.items)] == [second.id, first.id]
    assert rest.items[0].state is State.COMPLETED
