"""Idempotency keys in the database: kept for a day, pruned after."""

import uuid

from quarterdeck.domain.job import IdempotencyKey, NewJob
from quarterdeck.store import pool
from quarterdeck.store.jobs import JobStore


async def test_answers_are_kept_for_a_day_and_pruned_after(database_url, connection):
    opened = await pool.open_pool(database_url, name="test", size=1, command_timeout=5)
    store = JobStore(opened)
    keys = [IdempotencyKey("default", "POST", "/v1/jobs", f"k{number}", b"hash") for number in range(5)]
    for key in keys:
        await store.insert_jobs([NewJob(id=uuid.uuid4(), kind="k", args={}, idempotency=key)], [False], None)
    await connection.execute(
        "update quarterdeck.idempotency set created_at = now() - interval '1 day 1 second' where key <> 'k4'"
    )
    assert await store.find_answer(keys[0]) is None
    assert await store.find_answer(keys[4]) is not None
    assert await store.prune_answers(3) == 3
    assert await store.prune_answers(3) == 1
    assert await store.prune_answers(3) == 0
    assert await connection.fetchval("select string_agg(key, '') from quarterdeck.idempotency") == "k4"
    await opened.close()
