"""The hot statements keep their plans: on a large backlog, on a table just emptied, and where nothing was analysed.

Every plan is the real one: the statement's own text, prepared in a session of the service and run by EXPLAIN ANALYZE,
with a plan for its arguments and with a generic one. What counts is what the plan touched, not what it was to cost.
"""

import asyncio
import json
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from quarterdeck.store import pool
from quarterdeck.store.jobs import columns_of
from quarterdeck.store.queries import SQL
from tests.support.database import drop_database
from tests.support.factories import EVERY_KIND, new_job
from tests.support.waiting import eventually

GROUP = 100
"""What a statement is asked to take or to write."""

# Ids of today; the rest as the service would have written it. Every 40th available job is late already, and every other
# scheduled one is due.
FILL = """
    insert into quarterdeck.job
      (id, queue, kind, state, args, priority, run_at, timeline, expires_at, worker, attempt, fence, attempted_at)
    select
      (lpad(to_hex((date_part('epoch', now()) * 1000)::bigint), 12, '0') || '7000a' || lpad(to_hex(n), 15, '0'))::uuid,
      case state when 'paused' then 'paused' else 'default' end, 'echo',
      case state when 'paused' then 'available' else state end, '{{"path": "README.md"}}', n % 10,
      now() + n * interval '1 ms' + interval '1 hour' * case when state = 'scheduled' and n % 2 = 0 then 1 else -1 end,
      quarterdeck.entry(1, 'submitted', '{{"state":"available"}}'),
      now() + case n % 40 when 0 then interval '-1 minute' when 20 then interval '1 day' end,
      case state when 'running' then 'worker-' || n % 5 end, (state = 'running')::integer, (state = 'running')::integer,
      case state when 'running' then now() end
    from (select n, case when n <= {available} then 'available' when n <= {available} + {scheduled} then 'scheduled'
        when n <= {available} + {scheduled} + {paused} then 'paused' else 'running' end as state
      from generate_series(1, {available} + {scheduled} + {paused} + {running}) as n) numbers
"""
BACKLOG = [
    FILL.format(available=200_000, scheduled=100_000, paused=100_000, running=1000),
    "insert into quarterdeck.queue (name, paused) values ('paused', true)",
    """insert into quarterdeck.worker (id, host, pid, role, slots, version, lease_until)
    select 'worker-' || n, 'h', n, 'all', 10, '0', now() + interval '1 hour' from generate_series(1, 9) as n""",
]
FEW = FILL.format(available=150, scheduled=300, paused=0, running=2000)

CONDITIONS = {
    # What is done to a copy of the backlog, of which nothing was ever analysed.
    "never analysed": [],
    "analysed": ["analyze quarterdeck.job"],
    # Statistics of the full table for a nearly empty one, with the dead rows and without them.
    "just emptied": ["analyze quarterdeck.job", "delete from quarterdeck.job", FEW],
    "emptied and vacuumed": ["analyze quarterdeck.job", "delete from quarterdeck.job", "vacuum quarterdeck.job", FEW],
    # Statistics of a nearly empty table for a full one: work comes to an idle service.
    "filled at once": [
        "truncate quarterdeck.job",
        FEW,
        "analyze quarterdeck.job",
        FILL.format(available=50_000, scheduled=0, paused=0, running=0),
    ],
}


async def make_database(server, name, template, statements):
    connection = await asyncpg.connect(server.dsn)
    await connection.execute(f"create database {name} template {template} strategy file_copy")
    await connection.close()
    connection = await asyncpg.connect(server.database(name), timeout=60)
    # Rows are only known to be dead for good once the log of their deletion is on disk.
    await connection.execute("set synchronous_commit = on")
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


@pytest.fixture(scope="module")
def backlog(server):
    """A database with the backlog, to be copied."""
    name = f"qd_{uuid4().hex[:12]}"
    asyncio.run(make_database(server, name, server.template, BACKLOG))
    yield name
    asyncio.run(drop_database(server, name))


@pytest.fixture(scope="module", params=CONDITIONS)
def condition(server, backlog, request):
    """The DSN of a copy of the backlog, in one condition after another."""
    name = f"qd_{uuid4().hex[:12]}"
    asyncio.run(make_database(server, name, backlog, CONDITIONS[request.param]))
    yield server.database(name)
    asyncio.run(drop_database(server, name))


class Touched(msgspec.Struct):
    """What a plan did to the job tables."""

    rows: int
    buffers: int
    seq_scans: list[str]
    written: int
    scans: list[str]


class Session:
    """A session of the service whose statements are explained and rolled back."""

    def __init__(self, connection):
        self.connection = connection

    async def explain(self, name, *arguments):
        """Run the statement as EXPLAIN ANALYZE, take it back and tell what it touched."""
        call = f"execute {name}({', '.join(map(literal, arguments))})"
        await self.connection.execute(f"prepare {name} as {SQL[name]}")
        savepoint = self.connection.transaction()
        await savepoint.start()
        text = await self.connection.fetchval(f"explain (analyze, buffers, timing off, format json) {call}")
        await savepoint.rollback()
        await self.connection.execute(f"deallocate {name}")
        (answer,) = json.loads(text)
        nodes = list(nodes_of(answer["Plan"]))
        on_jobs = [node for node in nodes if "Scan" in node["Node Type"] and of_jobs(node)]
        return Touched(
            rows=sum(map(rows_of, on_jobs)),
            buffers=sum(answer["Plan"].get(f"Shared {how} Blocks", 0) for how in ("Hit", "Read")),
            seq_scans=[node["Relation Name"] for node in on_jobs if node["Node Type"] == "Seq Scan"],
            written=max((actual_rows(below) for node in nodes for below in rows_to_write(node)), default=0),
            scans=[f"{node['Node Type']} {node.get('Index Name', '')}: {rows_of(node)}" for node in on_jobs],
        )

    async def running(self):
        """Ids of a group of running jobs."""
        rows = await self.connection.fetch("select id from quarterdeck.job where state = 'running' limit $1", GROUP)
        assert len(rows) == GROUP
        return [row["id"] for row in rows]


def nodes_of(plan):
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes_of(inner)


def of_jobs(node):
    return (node.get("Relation Name") or node.get("Index Name") or "").startswith("job")


def rows_of(node):
    """Rows that a scan looked at, those that it threw away included."""
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return actual_rows(node) + int(removed * node["Actual Loops"])


def actual_rows(node):
    return int(node["Actual Rows"] * node["Actual Loops"])


def rows_to_write(node):
    """Where a node that writes has its rows from."""
    if "Operation" not in node:
        return []
    return [inner for inner in node["Plans"] if inner["Parent Relationship"] == "Outer"]


def literal(value):
    """A value as SQL text: EXECUTE takes no parameters of its own in an EXPLAIN."""
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, list):
        value = "{" + ",".join("null" if each is None else json.dumps(text_of(each)) for each in value) + "}"
    return "'" + text_of(value).replace("'", "''") + "'"


def text_of(value):
    return json.dumps(value) if isinstance(value, dict) else str(value)


@pytest.fixture(params=["force_custom_plan", "force_generic_plan"])
async def session(condition, request):
    connection = await pool.open_connection(condition, name="plans", command_timeout=30)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(f"set local plan_cache_mode = {request.param}")
    yield Session(connection)
    await transaction.rollback()
    await connection.close()


def assert_touched(touched, *, rows, buffers):
    """Check that the plan scanned no whole table and touched no more than this."""
    assert not touched.seq_scans, touched
    assert touched.rows <= rows, touched
    assert touched.buffers <= buffers, touched


NOTHING = [None] * GROUP
ONES = [1] * GROUP


async def assert_settles(session, name, *arguments, rows, buffers, written=0):
    """Check what the plan touches once the dead entries of the indexes are marked.

    The first statement after a mass deletion passes over them, and marks them for all others, as soon as no snapshot in
    this database is older than the deletion.
    """

    async def cheap():
        touched = await session.explain(name, *arguments)
        assert touched.written >= written, touched
        assert_touched(touched, rows=rows, buffers=buffers)
        return True

    await eventually(cheap, within=20)


async def test_a_claim_reads_little_more_than_it_takes(session):
    arguments = ("default", GROUP, "worker-9", EVERY_KIND)
    await assert_settles(session, "claim_jobs", *arguments, rows=6 * GROUP, buffers=60 * GROUP)


async def test_a_claim_from_a_paused_queue_reads_nothing(session):
    touched = await session.explain("claim_jobs", "paused", GROUP, "worker-9", EVERY_KIND)
    assert_touched(touched, rows=0, buffers=10)


async def test_a_finish_reads_its_own_rows_only(session):
    ids = await session.running()
    arguments = (ids, ONES, ["completed"] * GROUP, NOTHING, NOTHING, ["1"] * GROUP, NOTHING)
    touched = await session.explain("finish_jobs", *arguments)
    assert touched.written == GROUP, touched
    assert_touched(touched, rows=3 * GROUP, buffers=30 * GROUP)


async def test_putting_back_reads_its_own_rows_only(session):
    ids = await session.running()
    events, delays, yes = ["interrupted"] * GROUP, NOTHING, [True] * GROUP
    arguments = (ids, ONES, ["available"] * GROUP, NOTHING, events, delays, yes, yes, NOTHING)
    touched = await session.explain("reschedule_jobs", *arguments)
    assert touched.written == GROUP, touched
    assert_touched(touched, rows=3 * GROUP, buffers=60 * GROUP)


async def test_recording_reads_its_own_rows_only(session):
    ids = await session.running()
    events, lines = ["log"] * GROUP, ['{"level": "info", "message": "a"}'] * GROUP
    arguments = (ids, ONES, ONES, ONES, NOTHING, ids, ONES, events, lines)
    touched = await session.explain("record_events", *arguments)
    assert touched.written == GROUP, touched
    assert_touched(touched, rows=3 * GROUP, buffers=60 * GROUP)


async def test_a_cancel_reads_its_own_row_only(session):
    (job_id, *_) = await session.running()
    touched = await session.explain("cancel_job", job_id, "default")
    assert_touched(touched, rows=10, buffers=300)


async def test_a_promotion_reads_little_more_than_it_takes(session):
    await assert_settles(session, "promote_jobs", GROUP, rows=6 * GROUP, buffers=60 * GROUP, written=GROUP)


async def test_an_expiry_reads_little_more_than_it_takes(session):
    await assert_settles(session, "expire_jobs", GROUP, rows=6 * GROUP, buffers=60 * GROUP)


async def test_a_look_costs_a_few_probes(session):
    await assert_settles(session, "tick", "worker-1", rows=GROUP, buffers=20 * GROUP)


async def test_a_look_for_orphans_reads_running_jobs_at_most_and_those_once(session):
    await session.connection.execute("update quarterdeck.worker set id = 'worker-0' where id = 'worker-9'")
    (running,) = await session.connection.fetchrow("select count(*) from quarterdeck.job where state = 'running'")
    await assert_settles(session, "rescue_jobs", GROUP, rows=running + GROUP, buffers=20 * GROUP)


@pytest.mark.parametrize("statement", ["get_jobs", "fates_of_jobs"])
async def test_looking_jobs_up_reads_their_own_rows_only(session, statement):
    ids = await session.running()
    touched = await session.explain(statement, ids, min(ids), max(ids))
    assert_touched(touched, rows=5 * GROUP, buffers=10 * GROUP)


async def test_looking_at_versions_reads_their_own_rows_only(session):
    ids = await session.running()
    touched = await session.explain("job_versions", ids, ids, min(ids), max(ids))
    assert_touched(touched, rows=5 * GROUP, buffers=10 * GROUP)


async def test_looking_jobs_up_without_large_results_reads_their_own_rows_only(session):
    ids = await session.running()
    touched = await session.explain("look_up_jobs", ids, 8192, min(ids), max(ids))
    assert_touched(touched, rows=5 * GROUP, buffers=10 * GROUP)


async def test_reading_results_reads_their_own_rows_only(session):
    ids = await session.running()
    touched = await session.explain("get_results", ids, min(ids), max(ids))
    assert_touched(touched, rows=5 * GROUP, buffers=10 * GROUP)


async def test_looking_for_what_was_recorded_reads_their_own_rows_only(session):
    touched = await session.explain("recorded_events", await session.running(), ONES)
    assert_touched(touched, rows=5 * GROUP, buffers=10 * GROUP)


async def test_reading_what_happened_to_jobs_reads_their_own_rows_only(session):
    ids = await session.running()
    touched = await session.explain("read_events", ids, [0] * GROUP, 200, 65536, min(ids), max(ids))
    assert_touched(touched, rows=5 * GROUP, buffers=20 * GROUP)


@pytest.mark.parametrize("queue", ["default", "idle"])
async def test_the_hand_off_of_an_insert_costs_a_few_probes(session, queue):
    columns = [
        list(column) for column in zip(*(columns_of(new_job(queue=queue), hand_off=True) for _ in ONES), strict=True)
    ]
    arguments = (*columns, "worker-9")
    await assert_settles(session, "insert_jobs", *arguments, rows=GROUP // 10, buffers=30 * GROUP, written=GROUP)
