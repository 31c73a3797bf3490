"""`/metrics`: what it says after real work, to whom, in which format, and when the database is out."""

import asyncio
import time
from types import SimpleNamespace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from quarterdeck.bootstrap import COMMAND_TIMEOUT, Runtime
from quarterdeck.config import Settings
from quarterdeck.domain.errors import Unavailable
from quarterdeck.engine import exposition
from quarterdeck.engine.exposition import Exposition, of_depths
from quarterdeck.store.depths import QueueDepth
from quarterdeck.telemetry.catalogue import PREFIX
from quarterdeck.telemetry.metrics import MAX_VALUES, Metrics
from quarterdeck.telemetry.tallies import OTHER
from quarterdeck.web.app import create_app
from quarterdeck.web.metrics import preferred
from tests.contract.client import Client
from tests.support.waiting import eventually

NO_JOB = "0193b5c0-0000-7000-8000-000000000000"


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Every answer is made anew."""
    monkeypatch.setattr(exposition, "TTL", 0.0)
    monkeypatch.setattr(exposition, "REST", 0.0)


class Page:
    """The samples of an answer."""

    def __init__(self, text: str, parse=parse_text) -> None:
        self._samples = [sample for family in parse(text) for sample in family.samples]

    def __call__(self, name: str, /, **labels: str) -> float:
        """The sum of the samples that have these labels."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == PREFIX + name and labels.items() <= sample.labels.items()
        )

    def has(self, name: str) -> bool:
        return any(sample.name == PREFIX + name for sample in self._samples)


async def page_of(client) -> Page:
    answer = await client.get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return Page(answer.body.decode())


async def test_jobs_are_counted_by_what_became_of_them(client):
    assert (
        await client.submit("add", {"left": 1, "right": 2}, queue="sums", headers={"Prefer": "wait=10"})
    ).status == 200
    await client.submit("fail", headers={"Prefer": "wait=10"})
    await client.submit("give_up", headers={"Prefer": "wait=10"})
    page = await page_of(client)
    assert page("jobs_submitted_total") == page("jobs_started_total") == page("jobs_finished_total") == 3
    assert page("jobs_submitted_total", kind="add", queue="sums", how="handed_off") == 1
    for kind, outcome in [("add", "completed"), ("fail", "discarded"), ("give_up", "cancelled")]:
        assert page("jobs_finished_total", kind=kind, outcome=outcome) == 1
        assert page("job_run_seconds_count", kind=kind) == 1
    assert page("job_wait_seconds_count", queue="sums") == page("job_total_seconds_count", queue="sums") == 1
    assert 0 < page("job_total_seconds_sum", queue="sums") < 10
    for statement in ("insert_jobs", "finish_jobs", "look_up_jobs"):
        assert page("statement_rows_sum", statement=statement) >= 3
        assert page("statement_seconds_count", statement=statement) == page("statement_rows_count", statement=statement)


async def test_what_waits_and_runs_is_in_the_gauges(client, gate, runtime):
    await client.submit("hold", queue="busy")
    await client.submit("add", {"left": 1, "right": 1}, queue="later", delay="1h")
    await client.submit("add", {"left": 1, "right": 1}, queue="later", delay="2h")
    page = await page_of(client)
    assert page("queue_jobs", queue="busy", state="running") == 1
    assert page("queue_jobs", queue="later", state="scheduled") == 2
    assert page("queue_jobs") == 3
    assert page("jobs_running") == 1
    assert page("slots") == runtime.settings.concurrency
    assert page("database_up") == 1
    assert page("jobs_submitted_total", how="stored") == 2
    assert 0 <= page("lease_age_seconds") < runtime.settings.lease
    assert page("pool_connections", pool="api") >= 1
    assert page("pool_connections", state="in_use", pool="api") <= page("pool_connections", pool="api")
    gate.set()

    async def nothing_runs():
        page = await page_of(client)
        return page("jobs_running") == page("queue_jobs", queue="busy") == 0

    await eventually(nothing_runs)


async def test_a_job_that_waits_for_a_slot_is_claimed_and_its_wait_is_measured(client, connection):
    answer = await client.submit("add", {"left": 1, "right": 2}, delay=0.6, headers={"Prefer": "wait=10"})
    assert answer.json["state"] == "completed"
    page = await page_of(client)
    assert page("jobs_promoted_total", queue="default") == 1
    assert page("statement_rows_sum", statement="claim_jobs") == 1
    assert page("job_wait_seconds_count", queue="default") == 1
    assert page("job_total_seconds_sum", queue="default") >= 0.6 > page("job_run_seconds_sum", kind="add")


async def test_an_expired_job_is_counted(client, connection):
    await client.submit("hold", queue="nobody", delay="1h", ttl="2h")
    await connection.execute("update quarterdeck.job set expires_at = now() - interval '1 second'")

    async def expired():
        return (await page_of(client))("jobs_expired_total", queue="nobody") == 1

    await eventually(expired)


async def test_the_event_loop_is_sampled(client):
    async def sampled():
        return (await page_of(client))("event_loop_lag_seconds_count") >= 1

    await eventually(sampled)


async def test_requests_are_measured_by_template_and_never_by_path(client):
    await client.get("/livez")
    await client.get(f"/v1/jobs/{NO_JOB}")
    await client.get("/nowhere/secret")
    await client.call("BREW", "/v1/jobs")
    await client.call("OPTIONS", "/v1/jobs")
    await client.get("/livez", Host="evil.test")
    page = await page_of(client)
    assert page("http_request_seconds_count", method="GET", route="/livez", status="2xx") == 1
    assert page("http_request_seconds_count", method="GET", route="/v1/jobs/{id}", status="4xx") == 1
    assert page("http_request_seconds_count", method="GET", route=OTHER, status="4xx") == 2
    assert page("http_request_seconds_count", method=OTHER, route=OTHER, status="4xx") == 1
    assert page("http_request_seconds_count", method="OPTIONS", route="/v1/jobs", status="2xx") == 1
    body = (await client.get("/metrics")).body
    assert b"secret" not in body
    assert NO_JOB.encode() not in body


async def test_openmetrics_is_answered_where_it_is_asked_for(client):
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
    answer = await client.get("/metrics", Accept=accept)
    assert answer.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert answer.body.endswith(b"# EOF\n")
    assert Page(answer.body.decode(), parse_openmetrics)("database_up") == 1


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", "text"),
        ("*/*", "text"),
        ("text/plain", "text"),
        ("application/json", "text"),
        ("application/openmetrics-text", "openmetrics"),
        ("Application/OpenMetrics-Text; version=0.0.1", "openmetrics"),
        ("application/openmetrics-text;version=nonsense", "openmetrics"),
        ("text/plain;q=0.9, application/openmetrics-text;q=0.8", "text"),
        ("text/plain;q=0.5, application/openmetrics-text;q=0.8", "openmetrics"),
        ("application/openmetrics-text;q=0", "text"),
        ("application/openmetrics-text;q=zz, ;;;,,", "text"),
    ],
)
def test_the_format_is_the_one_that_is_wanted_most(accept, wanted):
    assert preferred(accept) == wanted


async def test_a_key_is_needed_where_keys_are(database_url):
    app = create_app(Runtime(Settings(database_url=database_url, api_keys="prometheus:long-enough-secret")))
    client = Client(app)
    (await client.get("/metrics")).problem(401, "unauthenticated")
    answer = await client.get("/metrics", Authorization="Bearer long-enough-secret")
    assert answer.status == 200
    assert b"long-enough-secret" not in answer.body


async def test_the_process_tells_of_itself_before_there_is_an_engine(settings):
    page = await page_of(Client(create_app(Runtime(settings))))
    assert page("database_up") == 0
    assert page("build_info") == 1
    assert not page.has("queue_jobs")


async def test_without_the_database_the_process_still_tells_of_itself(client, runtime, monkeypatch):
    async def out():
        raise ConnectionRefusedError

    monkeypatch.setattr(runtime.engine.readings._store, "queue_depths", out)
    page = await page_of(client)
    assert page("database_up") == 0
    assert page("slots") == runtime.settings.concurrency
    assert page("database_errors_total", **{"class": "connection"}) == 1
    assert not page.has("queue_jobs")


async def test_a_statement_that_does_not_end_does_not_hold_the_answer(client, connection):
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("lock table quarterdeck.job in access exclusive mode")
    began = time.monotonic()
    page = await page_of(client)
    assert page("database_up") == 0
    assert time.monotonic() - began < COMMAND_TIMEOUT, "it waited until the statement was given up"
    await transaction.rollback()


# The exposition by itself


class Look:
    """A source of gauges that counts who looks."""

    def __init__(self) -> None:
        self.looks = 0
        self.go = asyncio.Event()

    def gauges(self):
        return {"slots": {(): float(self.looks)}}

    async def depths(self):
        self.looks += 1
        await self.go.wait()
        return [QueueDepth("q", {"available": self.looks}, 1.5)]


async def test_those_who_ask_at_once_are_answered_by_one_look(monkeypatch):
    monkeypatch.setattr(exposition, "TTL", 60.0)
    look, made = Look(), Exposition(Metrics("1"))
    asking = [asyncio.create_task(made.text(each, look)) for each in ("text", "openmetrics") * 10]
    await eventually(lambda: look.looks)
    look.go.set()
    texts = await asyncio.gather(*asking)
    assert look.looks == 1
    assert len(set(texts)) == 2
    assert await made.text("text", look) == texts[0]


async def test_a_count_that_takes_long_is_given_again_for_longer(monkeypatch):
    now = 100.0
    monkeypatch.setattr(exposition, "REST", 5.0)
    monkeypatch.setattr(exposition, "time", SimpleNamespace(monotonic=lambda: now))
    look, made = Look(), Exposition(Metrics("1"))
    asked = asyncio.create_task(made.text("text", look))
    await eventually(lambda: look.looks)
    now = 102.0
    look.go.set()
    await asked
    for now, looks in [(102.0, 1), (111.9, 1), (112.0, 2)]:  # noqa: B007 - read by the clock above
        await made.text("text", look)
        assert look.looks == looks


async def test_who_gives_up_stops_nobody_else():
    look, made = Look(), Exposition(Metrics("1"))
    first = asyncio.create_task(made.text("text", look))
    second = asyncio.create_task(made.text("text", look))
    await eventually(lambda: look.looks)
    first.cancel()
    look.go.set()
    assert b"quarterdeck_slots" in await second


async def test_the_event_loop_goes_on_while_the_text_is_made(monkeypatch):
    entered, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def render(_format, _gauges):
        loop.call_soon_threadsafe(entered.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)
        return b"text"

    made = Exposition(SimpleNamespace(render=render))
    asked = asyncio.create_task(made.text("text", None))
    await entered.wait()
    go_on.set()
    assert await asked == b"text"


async def test_an_engine_that_is_not_open_yet_is_a_database_that_is_not_up():
    async def closed():
        raise Unavailable("not yet")

    text = await Exposition(Metrics("1")).text("text", SimpleNamespace(depths=closed, gauges=dict))
    assert Page(text.decode())("database_up") == 0


def test_beyond_the_fullest_queues_all_are_one():
    depths = [QueueDepth(f"q{number}", {"available": number, "running": 1}, float(number)) for number in range(300)]
    gauges = of_depths(depths)
    jobs, ages = gauges["queue_jobs"], gauges["queue_oldest_available_seconds"]
    assert len(jobs) == 2 * (MAX_VALUES + 1)
    assert jobs["q299", "available"] == 299
    assert ("q99", "available") not in jobs
    assert jobs[OTHER, "available"] == sum(range(100))
    assert jobs[OTHER, "running"] == 100
    assert ages[(OTHER,)] == 99
