"""What handlers tell, as the interface shows it."""

import asyncio
import json

import asyncpg
import pytest

from quarterdeck import Quarterdeck
from tests.support.waiting import eventually


@pytest.fixture
def deck(gate):
    deck = Quarterdeck()

    @deck.handler()
    async def tell(ctx) -> str:
        await ctx.progress(0.25, "a quarter")
        await ctx.log("first \0 \ud800 ü")
        await ctx.log("second", level="error")
        await ctx.output({"part": [1, "\ud800"]})
        await ctx.output(None)
        await ctx.progress(0.5, "half")
        await gate.wait()
        await ctx.log("third", "debug")
        await ctx.progress(1)
        return "over"

    @deck.handler(max_attempts=1)
    async def misuse(ctx, how: str) -> None:
        await ctx.log("before")
        await {
            "fraction": lambda: ctx.progress(1.5),
            "level": lambda: ctx.log("a", "loud"),
            "output": lambda: ctx.output({1, 2}),
        }[how]()

    return deck


async def everything(client, path):
    """All items of a list, the oldest first."""
    items, query = [], "?limit=2"
    while query:
        page = json.loads((await client.get(f"{path}{query}")).body)  # msgspec refuses lone surrogates
        items += page["items"]
        query = page["next"] and f"?limit=2&cursor={page['next']}"
    return items[::-1]


async def test_lines_outputs_and_progress_are_there_while_the_job_runs_and_afterwards(client, gate, database_url):
    answer = await client.submit("tell")
    path = answer.headers["Location"]

    async def half_way():
        job = (await client.get(path)).json
        return (job["progress"] or {}).get("fraction") == 0.5 and job

    job = await eventually(half_way)
    assert (job["state"], job["seq"], job["progress"]["message"]) == ("running", 8, "half")
    lines = [(line["level"], line["message"], line["attempt"]) for line in await everything(client, f"{path}/logs")]
    assert lines == [("info", "first \0 \ud800 ü", 1), ("error", "second", 1)]
    waiting = asyncio.create_task(client.get(path, If_None_Match=f'"1-{job["seq"]}"', Prefer="wait=10"))
    await asyncio.sleep(0)
    gate.set()
    changed = (await waiting).json
    assert changed["seq"] > job["seq"]
    job = (await client.get(path, Prefer="wait=10")).json
    assert (job["state"], job["seq"], job["progress"]) == ("completed", 11, {"fraction": 1.0, "message": None})
    outputs = await everything(client, f"{path}/outputs")
    assert [output["data"] for output in outputs] == [{"part": [1, "\ud800"]}, None]
    lines = await everything(client, f"{path}/logs")
    assert [line["message"] for line in lines] == ["first \0 \ud800 ü", "second", "third"]
    assert all(job["attempted_at"] <= each["at"] <= job["finalized_at"] for each in [*lines, *outputs])
    connection = await asyncpg.connect(database_url)
    timeline = await connection.fetchval("select timeline from quarterdeck.job_history where id = $1", job["id"])
    told = await connection.fetch("select seq from quarterdeck.job_event where job_id = $1", job["id"])
    await connection.close()
    seqs = [json.loads(line)[0] for line in timeline.splitlines()] + [row["seq"] for row in told]
    assert sorted(seqs) == list(range(1, job["seq"] + 1))


@pytest.mark.parametrize(
    ("how", "error"), [("fraction", "ValueError"), ("level", "ValueError"), ("output", "ResultError")]
)
async def test_what_breaks_a_rule_fails_the_attempt_and_what_was_told_before_stays(client, how, error):
    answer = await client.submit("misuse", {"how": how}, headers={"Prefer": "wait=10"})
    job = answer.json
    assert (job["state"], job["errors"][0]["type"]) == ("discarded", error)
    assert [line["message"] for line in await everything(client, f"/v1/jobs/{job['id']}/logs")] == ["before"]
