"""Large results come from a cache, and nobody ever sees one that is not the job's own, or of a job that is gone."""

import asyncio
import contextlib
import os
import random
import re
import secrets
from pathlib import Path

import msgspec
import pytest

import quarterdeck
from quarterdeck import Quarterdeck
from quarterdeck.domain.errors import JobNotFound
from quarterdeck.domain.job import DEFAULT_TENANT
from quarterdeck.engine import exposition
from quarterdeck.engine.results import LARGE_FROM
from quarterdeck.store import memcached_server
from quarterdeck.store.jobs import JobStore
from tests.contract.test_metrics import Page
from tests.support.memcached import HERE, MemcachedProcess
from tests.support.running import running
from tests.support.waiting import eventually

SOURCE = Path(quarterdeck.__file__).parent
SIZE = 3 * LARGE_FROM


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Every answer is made anew."""
    monkeypatch.setattr(exposition, "TTL", 0.0)
    monkeypatch.setattr(exposition, "REST", 0.0)


@pytest.fixture
def deck():
    deck = Quarterdeck()

    @deck.handler()
    async def report(ctx, size: int = SIZE) -> dict:
        return {"generation": ctx.job.generation, "pages": secrets.token_hex(size // 2)}

    return deck


@pytest.fixture
def memcached():
    with MemcachedProcess() as process:
        yield process


async def ended(runtime, **args):
    """A job that has ended, read once where it ran."""
    submitted = await runtime.engine.jobs.submit_by_name("report", args)
    return await runtime.engine.jobs.wait(submitted.id, 10)


async def counted(runtime, name, **labels):
    return Page((await runtime.metrics_text("text")).decode())(name, **labels)


@contextlib.asynccontextmanager
async def replicas(database_url, deck, **settings):
    async with running(database_url, deck, **settings) as one, running(database_url, role="web", **settings) as two:
        yield one, two


async def test_a_large_result_is_read_from_the_database_once(database_url, deck):
    async with running(database_url, deck) as runtime:
        job = await ended(runtime)
        for _ in range(5):
            assert await runtime.engine.jobs.get(job.id) == job
        assert await counted(runtime, "statement_rows_sum", statement="get_results") == 1
        assert await counted(runtime, "cache_reads_total", outcome="hit") == 5
        assert await counted(runtime, "cache_bytes") > SIZE


async def test_a_small_result_never_comes_near_the_cache(database_url, deck):
    async with running(database_url, deck) as runtime:
        job = await ended(runtime, size=100)
        assert await runtime.engine.jobs.get(job.id) == job
        assert msgspec.json.decode(job.result)["generation"] == 1
        assert await counted(runtime, "cache_reads_total") == await counted(runtime, "cache_writes_total") == 0


async def test_what_one_replica_has_read_another_one_has_from_memcached(database_url, deck, memcached, monkeypatch):
    monkeypatch.setattr(memcached_server, "SLOT_TIMEOUT", 5.0)  # no busy machine comes near these
    monkeypatch.setattr(memcached_server, "OPERATION_TIMEOUT", 5.0)
    async with replicas(database_url, deck, memcached=memcached.address) as (one, two):
        job = await ended(one)
        await eventually(memcached.keys)
        assert await two.engine.jobs.get(job.id) == job
        assert await counted(two, "cache_reads_total", cache="memcached", outcome="hit") == 1
        assert await two.engine.jobs.get(job.id) == job
        assert await counted(two, "cache_reads_total", cache="memory", outcome="hit") == 1
        assert await counted(two, "statement_rows_count", statement="get_results") == 0
        assert await counted(two, "cache_server_left_alone", server=memcached.address) == 0
    await eventually(lambda: memcached.statistic("curr_connections") <= 2)


async def test_who_may_not_see_a_job_gets_nothing_of_it_from_the_cache_either(database_url, deck):
    async with running(database_url, deck) as runtime:
        job = await ended(runtime)
        before = await counted(runtime, "cache_reads_total")
        with pytest.raises(JobNotFound):
            await runtime.engine.jobs.get(job.id, tenant="other")
        assert await counted(runtime, "cache_reads_total") == before


async def test_a_job_that_changes_between_its_row_and_its_result_is_looked_up_again(
    database_url, connection, deck, monkeypatch
):
    again = "select 1 from quarterdeck.job_history where id = $1 and generation = 2"
    async with running(database_url, deck) as runtime:
        job = await ended(runtime)
        runtime.engine.parts.reader._results._cache._near._kept.clear()
        get_results, waited = JobStore.get_results, []

        async def after_a_retry(self, ids):
            if not waited:
                waited.append(await runtime.engine.job_edits.retry(job.id))
                await eventually(
                    lambda: connection.fetchval(again, job.id)
                )  # not by the service: its readers wait here
            return await get_results(self, ids)

        monkeypatch.setattr(JobStore, "get_results", after_a_retry)
        seen = await runtime.engine.jobs.get(job.id)
        assert seen.generation == 2
        assert seen.seq > job.seq
        assert seen.result is None or msgspec.json.decode(seen.result)["generation"] == 2


async def test_a_job_that_is_deleted_between_its_row_and_its_result_is_gone(database_url, deck, monkeypatch):
    async with running(database_url, deck) as runtime:
        job = await ended(runtime)
        runtime.engine.parts.reader._results._cache._near._kept.clear()
        get_results = JobStore.get_results

        async def after_its_end(self, ids):
            with contextlib.suppress(JobNotFound):
                await runtime.engine.job_edits.delete(job.id)
            return await get_results(self, ids)

        monkeypatch.setattr(JobStore, "get_results", after_its_end)
        with pytest.raises(JobNotFound):
            await runtime.engine.jobs.get(job.id)


class Chaos:
    """Does things to a memcached, one after another."""

    def __init__(self, memcached, noise):
        self._memcached = memcached
        self._noise = noise
        self.done = 0

    async def run(self):
        while True:
            deed = self._noise.choice([self._freeze, self._restart, self._flush])
            await deed()
            self.done += 1
            await asyncio.sleep(self._noise.uniform(0.05, 0.4))

    async def _freeze(self):
        self._memcached.freeze()
        try:
            await asyncio.sleep(self._noise.uniform(0.01, 0.15))
        finally:
            self._memcached.thaw()

    async def _restart(self):
        self._memcached.kill()
        await asyncio.sleep(self._noise.uniform(0.0, 0.1))
        await asyncio.to_thread(self._memcached.start)

    async def _flush(self):
        await asyncio.to_thread(self._memcached.ask, "flush_all")


async def changed_and_read(one, two, noise):
    """A job that ends, and is deleted or runs again, at one replica; each time the other one is asked right after."""
    job = await ended(one)
    assert (await two.engine.jobs.get(job.id)).result == job.result
    reader = asyncio.create_task(two.engine.jobs.get(job.id))  # under way while it changes
    if noise.random() < 0.5:
        await one.engine.job_edits.delete(job.id)
        for replica in (two, one):
            with pytest.raises(JobNotFound):
                await replica.engine.jobs.get(job.id)
    else:
        again = await one.engine.job_edits.retry(job.id)
        seen = await two.engine.jobs.get(job.id)
        assert (seen.generation, seen.seq >= again.seq) == (2, True)
        assert seen.result != job.result
        over = await one.engine.jobs.wait(job.id, 10)
        seen = await two.engine.jobs.get(job.id)
        assert seen.result == over.result != job.result
    (early,) = await asyncio.gather(reader, return_exceptions=True)
    assert isinstance(early, JobNotFound) or early.generation == 2 or early.result == job.result


async def test_a_read_is_never_older_than_a_change_that_was_answered_whatever_memcached_does(
    database_url, deck, memcached
):
    """F67: changes at one replica, looks at the other right after the answer, with a memcached that is tormented.

    QD_TEST_CACHE_PAIRS is how many jobs; two or three changes are made to each.
    """
    left = int(os.environ.get("QD_TEST_CACHE_PAIRS", "60"))
    noise = random.Random(67)
    async with replicas(database_url, deck, memcached=memcached.address) as (one, two):
        chaos = Chaos(memcached, noise)

        async def caller():
            nonlocal left
            while left > 0 or chaos.done < 3:
                left -= 1
                await changed_and_read(one, two, noise)

        tormented = asyncio.create_task(chaos.run())
        try:
            async with asyncio.TaskGroup() as callers:
                for _ in range(8):
                    callers.create_task(caller())
        finally:
            tormented.cancel()
            await asyncio.gather(tormented, return_exceptions=True)
            memcached.thaw()
        assert await counted(two, "cache_reads_total", cache="memcached", outcome="hit") > 0
        assert await counted(two, "cache_reads_total", outcome="poisoned") == 0


async def test_a_memcached_that_is_not_there_neither_stops_nor_slows_the_service(database_url, deck):
    with MemcachedProcess() as gone:
        pass
    async with running(database_url, deck, memcached=f"{HERE}:{gone.port},{HERE}:1") as runtime:
        assert (await runtime.engine.readiness())["engine"] == "ok"
        job = await ended(runtime)
        for _ in range(10):
            runtime.engine.parts.reader._results._cache._near._kept.clear()
            assert await runtime.engine.jobs.get(job.id, tenant=DEFAULT_TENANT) == job
        assert await counted(runtime, "cache_reads_total", outcome="hit") == 0
        assert (await runtime.engine.readiness())["engine"] == "ok"


def test_the_client_is_loaded_only_where_it_is_used():
    importing = re.compile(r"^(?:from|import) (?:aiomcache|quarterdeck\.store\.memcached)", re.MULTILINE)
    found = {path.name for path in SOURCE.rglob("*.py") if importing.search(path.read_text())}
    assert found == {"memcached.py", "memcached_server.py"}
