import re

import asyncpg
import pytest

from quarterdeck.domain.job import Job
from quarterdeck.domain.outcome import Transition
from quarterdeck.domain.state import TERMINAL, State
from quarterdeck.store.queries import SQL
from tests.support.factories import ended, new_id, new_job, open_stores

ENDED = ", null::timestamptz as finalized_at"
UNFINISHED = set(State) - TERMINAL


@pytest.fixture
async def stores(database_url):
    async with open_stores(database_url) as stores:
        yield stores


async def columns(stores, table):
    rows = await stores.fetch(
        """select column_name as name, data_type || coalesce(collation_name, '') as type from information_schema.columns
        where table_schema = 'quarterdeck' and table_name = $1""",
        table,
    )
    return {row["name"]: row["type"] for row in rows}


def list_of_columns(text, before, after):
    """The names in a statement between two of its pieces, without the alias before them."""
    (found,) = re.findall(re.escape(before) + r"(.*?)" + re.escape(after), text, re.DOTALL)
    return [name.strip().removeprefix("j.").removeprefix("h.") for name in found.split(",")]


# --- the columns of both tables, and of the pieces of the statements


async def test_the_history_has_every_column_of_a_job_and_its_end(stores):
    job, history = await columns(stores, "job"), await columns(stores, "job_history")
    assert {name: kind for name, kind in history.items() if name not in {"finalized_at", "result"}} == job
    assert {"finalized_at", "result"} <= set(history)


@pytest.mark.parametrize("name", ["finish_jobs", "cancel_job", "expire_jobs", "rescue_jobs"])
async def test_every_column_moves_to_the_history(stores, name):
    moved = list_of_columns(SQL[name], "job_history as h (", ")")
    assert sorted(moved) == sorted(await columns(stores, "job_history"))


@pytest.mark.parametrize(("name", "after"), [("claim_jobs", None), ("get_jobs", ENDED), ("look_up_jobs", ENDED)])
async def test_what_is_read_of_a_job_is_all_that_the_outside_sees_of_it(stores, name, after):
    text = SQL[name] + "\n-- end"
    before = "returning " if name == "claim_jobs" else "select "
    text = text[text.index(before) :]
    read = list_of_columns(text, before, after or "\n-- end")
    assert set(read) <= set(await columns(stores, "job"))
    seen = set(Job.__struct_fields__) - {"finalized_at", "result"}
    assert seen <= set(read)
    assert set(read) - seen == {"fence", "retry", "traceparent"}, "read and not used"


async def test_a_value_of_every_column_survives_the_move(stores):
    claimed = await stores.running(args={"a": 1}, tags=["t"], metadata={"m": 1}, ttl=5.0, traceparent="t")
    await stores.execute(
        """update quarterdeck.job set state_detail = 'd', progress = '1', errors = array['{"a":1}'::json],
        unique_key = 'u', concurrency_key = 'c', cache_key = 'k', cache_ttl = 1, cached_from = $1, workflow_id = $1,
        batch_id = $1, parent_id = $1, needs = '{}', open_needs = 1, webhook = '{}', retry = '{}', tenant = 't',
        crashes = 1, generation = 2, priority = 3""",
        new_id(),
    )
    before = dict(await stores.row(claimed.id))
    assert [name for name, value in before.items() if value is None] == ["state_reason", "cancel_requested_at"]
    await stores.finish(claimed)
    after = dict(await stores.row(claimed.id))
    changed = {"state", "state_reason", "state_detail", "seq", "timeline"}
    assert {name: after[name] for name in before if name not in changed} == {
        name: value for name, value in before.items() if name not in changed
    }


# --- legal rows


@pytest.mark.parametrize("state", sorted(set(State)))
async def test_a_job_has_an_unfinished_state_only(stores, state):
    job = new_job()
    await stores.insert(job)
    change = stores.execute(
        "update quarterdeck.job set state = $1, worker = case $1 when 'running' then 'w' end", state
    )
    if state in UNFINISHED:
        await change
    else:
        with pytest.raises(asyncpg.CheckViolationError, match="job_state"):
            await change


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("state = 'sleeping'", "job_state"),
        ("state = 'running'", "job_worker"),
        ("worker = 'w'", "job_worker"),
        ("queue = ''", "job_names"),
        ("kind = ''", "job_names"),
        ("tenant = ''", "job_names"),
        ("priority = 10", "job_numbers"),
        ("priority = -1", "job_numbers"),
        ("attempt = -1", "job_numbers"),
        ("max_attempts = 0", "job_numbers"),
        ("seq = 0", "job_numbers"),
    ],
)
async def test_a_job_that_cannot_be_is_refused(stores, change, constraint):
    await stores.insert(new_job())
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await stores.execute(f"update quarterdeck.job set {change}")
    assert refused.value.constraint_name == constraint


async def insert_into_history(stores, **changes):
    values = {
        "id": new_id(),
        "queue": "q",
        "kind": "k",
        "state": "completed",
        "args": {},
        **changes,
    }
    names = ", ".join(values)
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await stores.execute(
        f"insert into quarterdeck.job_history ({names}, finalized_at) values ({places}, now())", *values.values()
    )


@pytest.mark.parametrize("state", sorted(set(State)))
async def test_the_history_holds_ended_jobs_only(stores, state):
    if state in TERMINAL:
        await insert_into_history(stores, state=state.value)
    else:
        with pytest.raises(asyncpg.CheckViolationError, match="job_history_state"):
            await insert_into_history(stores, state=state.value)


@pytest.mark.parametrize("name", ["queue", "kind", "tenant"])
async def test_the_history_holds_named_jobs_only(stores, name):
    with pytest.raises(asyncpg.CheckViolationError, match="job_history_names"):
        await insert_into_history(stores, **{name: ""})


async def test_a_job_is_once_in_the_history(stores):
    job_id = new_id()
    await insert_into_history(stores, id=job_id)
    with pytest.raises(asyncpg.UniqueViolationError):
        await insert_into_history(stores, id=job_id)


@pytest.mark.parametrize("change", ["state = 'discarded'", "result = '1'", "seq = seq + 1", "id = id"])
async def test_an_ended_job_never_changes(stores, change):
    claimed = await stores.running()
    await stores.attempts.finish_jobs([ended(claimed, Transition.complete("0"))])
    before = await stores.row(claimed.id)
    with pytest.raises(asyncpg.RestrictViolationError, match="a terminal job never changes"):
        await stores.execute(f"update quarterdeck.job_history set {change}")
    (table,) = await stores.fetch("select tableoid::regclass::text as name from quarterdeck.job_history")
    with pytest.raises(asyncpg.RestrictViolationError, match="a terminal job never changes"):
        await stores.execute(f"update {table['name']} set {change}")
    assert await stores.row(claimed.id) == before


async def test_an_ended_job_can_be_forgotten(stores):
    claimed = await stores.running()
    await stores.finish(claimed)
    assert await stores.execute("delete from quarterdeck.job_history where id = $1", claimed.id) == "DELETE 1"


# --- what later releases and other machines rely on


async def test_there_is_no_default_partition(stores):
    rows = await stores.fetch(
        """select 1 from pg_inherits join pg_class on pg_class.oid = inhrelid
        where pg_get_expr(relpartbound, pg_class.oid) = 'DEFAULT'"""
    )
    assert rows == []


@pytest.mark.parametrize("table", ["job", "job_history", "job_event", "unique_key", "bucket"])
async def test_every_unique_key_of_a_job_table_carries_the_queue(stores, table):
    rows = await stores.fetch(
        "select pg_get_indexdef(indexrelid) as index from pg_index where indrelid = $1::regclass and indisunique",
        f"quarterdeck.{table}",
    )
    assert rows
    assert all(re.search(r"\(.*\bqueue\b.*\)", row["index"]) for row in rows)


async def test_a_timeline_line_is_json_whatever_its_fields(stores):
    (row,) = await stores.fetch(
        """select quarterdeck.entry(7, 'started', '{"attempt":1}') as full,
        quarterdeck.entry(1, 'available', null) as bare, (date_part('epoch', now()) * 1000)::bigint as ms"""
    )
    assert row["full"].endswith(',{"attempt":1}]\n')
    assert re.fullmatch(r'\[7,"started",\d{13},\{"attempt":1\}\]\n', row["full"])
    assert row["bare"] == f'[1,"available",{row["ms"]}]\n'


async def test_the_floor_of_a_moment_is_the_smallest_id_of_it(stores):
    job_id = new_id()
    moment = job_id.int >> 80
    (row,) = await stores.fetch(
        """select quarterdeck.uuid_floor(to_timestamp($1 / 1000.0)) as this,
        quarterdeck.uuid_floor(to_timestamp(($1 + 1) / 1000.0)) as next""",
        float(moment),
    )
    assert row["this"].int >> 80 == moment
    assert row["next"].int >> 80 == moment + 1
    assert row["this"] <= job_id < row["next"]
    assert (row["this"].version, row["this"].variant) == (7, job_id.variant)
