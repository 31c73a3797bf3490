import json
import random
import re

import pytest

from quarterdeck.store.queries import SQL
from quarterdeck.store.shelf import Version
from tests.support.factories import completed, new_id, new_job, open_stores

LARGEST = 8192


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def ended(stores, result, **options):
    """A job with that result, as JSON text."""
    claimed = await stores.running(**options)
    await stores.attempts.finish_jobs([completed(claimed, result)])
    return claimed.id


def incompressible(size):
    return json.dumps(random.Random(1).randbytes(size // 2).hex())


async def test_only_a_large_result_is_left_out_and_the_rest_is_as_ever(stores):
    waiting = new_job(queue="waiting")
    small, large = await ended(stores, "[1,2]"), await ended(stores, incompressible(100_000), tenant="acme")
    nothing = await ended(stores, "null")
    await stores.insert(waiting)
    found = await stores.jobs.look_up_jobs([small, large, nothing, waiting.id, new_id()], LARGEST)
    whole = await stores.jobs.get_jobs([small, large, nothing, waiting.id])
    assert found.keys() == whole.keys()
    for job_id in (small, nothing, waiting.id):
        assert (found[job_id].job, found[job_id].left_out) == (whole[job_id], False)
    job = whole[large]
    assert found[large].job.result is None
    assert found[large].left_out
    assert found[large].version == Version("acme", large, 1, 3, job.finalized_at)


async def test_what_was_left_out_is_found_under_the_version_that_was_told(stores):
    text = incompressible(50_000)
    one, two = await ended(stores, text), await ended(stores, '"\\u0000"')
    versions = [each.version for each in (await stores.jobs.look_up_jobs([one, two], 0)).values()]
    results = await stores.jobs.get_results([one, two, new_id()])
    assert set(results) == set(versions)
    assert {each.job_id: value for each, value in results.items()} == {one: text.encode(), two: b'"\\u0000"'}


async def test_the_size_is_that_of_what_is_stored(stores):
    """A result that compresses well is not worth leaving out."""
    job_id = await ended(stores, json.dumps("x" * 100_000))
    assert (await stores.jobs.look_up_jobs([job_id], LARGEST))[job_id].left_out is False


async def test_a_job_that_runs_again_has_no_result_to_read(stores):
    job_id = await ended(stores, incompressible(50_000))
    (before,) = await stores.jobs.get_results([job_id])
    await stores.execute("delete from quarterdeck.job_history")
    assert await stores.jobs.get_results([job_id]) == {}
    assert before.job_id == job_id


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("look_up_jobs", "{ids}, 1, {least}, {most}"),
        ("get_results", "{ids}, {least}, {most}"),
        ("get_jobs", "{ids}, {least}, {most}"),
        ("fates_of_jobs", "{ids}, {least}, {most}"),
        ("job_versions", "{ids}, {ids}, {least}, {most}"),
        ("read_events", "{ids}, array[0, 0], 200, 65536, {least}, {most}"),
    ],
)
async def test_only_the_days_that_can_hold_the_jobs_are_looked_at(stores, name, arguments):
    ids = [await ended(stores, "1") for _ in range(2)]
    texts = [f"'{job_id}'::uuid" for job_id in ids]
    call = arguments.format(ids=f"array[{', '.join(texts)}]", least=texts[0], most=texts[1])
    async with stores.connection() as connection:
        await connection.execute(f"prepare statement as {SQL[name]}")
        plan = "\n".join(row[0] for row in await connection.fetch(f"explain (analyze) execute statement({call})"))
    assert len(set(re.findall(r"on job_history_(\d+)", plan))) == 1, plan
    assert "Subplans Removed" in plan
