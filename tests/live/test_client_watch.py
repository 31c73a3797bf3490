"""The Python client's watches: what they give, and what they make of restarts, drains and lost networks."""

import asyncio
import gc
from contextlib import AsyncExitStack

import pytest

from quarterdeck.client import (
    Client,
    Closed,
    Event,
    Gap,
    Invalid,
    NotFound,
    Unreachable,
    connection,
    subscriptions,
)
from quarterdeck.web import socket_session
from tests.support.processes import cleaned_up, start_service
from tests.support.relay import relaying
from tests.support.waiting import eventually

NO_JOB = "0193b5c0-0000-7000-8000-000000000000"


@pytest.fixture
async def client(service):
    async with Client(service.url) as client:
        yield client


def assert_all_of(events, *, first=1):
    """Every seq once and in order; those that were merged are told by the one they are in."""
    expected = first
    for event in events:
        assert (event.merged_from or event.seq) == expected
        expected = event.seq + 1


async def taken(watch, count):
    async with asyncio.timeout(10):
        return [await anext(watch) for _ in range(count)]


# What there is to watch


async def test_a_job_from_its_first_event_to_its_last(client):
    job = await client.submit("report", {"steps": 2})
    events = [event async for event in client.watch(job=job.id)]
    assert_all_of(events)
    assert (events[0].event, events[-1].event, events[-1].data["result"]) == ("job.submitted", "job.completed", "done")
    assert events[-1].ends
    assert (await client.get(job.id)).seq == events[-1].seq
    assert {(type(event), event.job_id, event.generation) for event in events} == {(Event, job.id, 1)}
    assert events == [event async for event in client.watch(job=str(job.id))]
    assert events[2:] == [event async for event in client.watch(job=job.id, after=2)]
    assert [event async for event in client.watch(job=job.id, after=events[-1].seq)] == []


async def test_a_job_that_was_run_again_is_watched_to_its_last_end(client, gate):
    job = await client.submit("give_up")
    ended = await client.wait(job.id)
    await client.retry(job.id)
    ended = await client.wait(job.id)
    events = [event async for event in client.watch(job=job.id)]
    assert_all_of(events)
    assert [event.event for event in events].count("job.cancelled") == 2
    assert events[-1].seq == ended.seq


@pytest.mark.parametrize("target", [{"queue": "q"}, {"kind": "add"}, {"tag": "x"}, {"all": True}], ids=str)
async def test_all_jobs_that_have_something_in_common(client, target):
    async with client.watch(**target) as events:
        other = await client.submit("report")
        job = await client.submit("add", {"left": 1, "right": 2}, queue="q", tags=["x"])
        found = []
        while not found or not (found[-1].job_id == job.id and found[-1].ends):
            found += await taken(events, 1)
    if "all" not in target:
        assert {event.job_id for event in found} == {job.id}
    assert_all_of([event for event in found if event.job_id == job.id])
    assert other.id != job.id


async def test_a_feed_goes_on_from_a_cursor(client):
    async with client.watch(tag="x") as events:
        await client.submit("add", {"left": 1, "right": 2}, tags=["x"])
        first, *others = await taken(events, 3)
    assert others == await taken(client.watch(tag="x", cursor=first.cursor), 2)


async def test_a_topic_goes_on_from_a_message(client):
    ids = [await client.publish("t", number) for number in range(4)]
    messages = await taken(client.watch(topic="t", cursor=ids[1]), 2)
    assert [(message.topic, message.id, message.data) for message in messages] == [("t", 3, 2), ("t", 4, 3)]


async def test_what_was_missed_is_told(client):
    for number in range(5):
        await client.publish("t", number)
    async with client.watch(topic="t", cursor=0) as messages:
        assert len(await taken(messages, 5)) == 5
    # A cursor of a log that this database has not: something may be missing.
    async with client.watch(all=True, cursor="1-0") as events:
        (gap,) = await taken(events, 1)
    assert isinstance(gap, Gap)
    assert (gap.event, gap.cursor != "1-0") == ("gap", True)


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ({"job": NO_JOB}, NotFound),
        ({"job": "no-id"}, Invalid),
        ({"queue": "no name"}, Invalid),
        ({"all": True, "cursor": "none"}, Invalid),
    ],
    ids=str,
)
async def test_what_cannot_be_watched_is_an_error_and_nothing_else_suffers(client, target, error):
    job = await client.submit("add", {"left": 1, "right": 2})
    watch = client.watch(**target)
    with pytest.raises(error if error is not Invalid else connection.QuarterdeckClientError) as caught:
        await anext(watch)
    assert caught.value.status in (400, 404, 422)
    with pytest.raises(type(caught.value)):
        async with client.watch(**target):
            pass
    assert len([event async for event in client.watch(job=job.id)]) == 3


@pytest.mark.parametrize(
    "target",
    [
        {},
        {"job": NO_JOB, "tag": "x"},
        {"all": False},
        {"tag": "x", "after": 1},
        {"job": NO_JOB, "cursor": "1"},
        {"x": 1},
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_refused_at_once(client, target):
    with pytest.raises(TypeError):
        client.watch(**target)


async def test_a_job_that_is_forgotten_ends_its_watch(client, http, gate):
    job = await client.submit("add", {"left": 1, "right": 2})
    ended = await client.wait(job.id)
    await client.submit("hold")
    async with client.watch(all=True):  # the connection stays
        await http.delete(f"/v1/jobs/{job.id}")
        with pytest.raises(NotFound):
            async for _ in client.watch(job=job.id, after=ended.seq):
                pass


# Who watches


async def test_a_thousand_jobs_at_once_over_one_socket(service, peer, client, gate):
    asyncio.get_running_loop().set_debug(enabled=False)  # it takes most of the time
    answer = await peer.ask(op="submit", ref="1", jobs=[{"kind": "hold"}] * 1000)
    async with asyncio.timeout(40):
        jobs = [job["id"] for job in answer["jobs"]]
        watches = [asyncio.create_task(watched(client, job)) for job in jobs]
        await eventually(lambda: service.engine.live.streams.followed == 1000, 20)
        assert service.engine.live.listeners == 2  # the peer and the client
        gate.set()
        for job, events in zip(jobs, await asyncio.gather(*watches), strict=True):
            assert_all_of(events)
            assert {str(event.job_id) for event in events} == {job}
            assert events[-1].event == "job.completed"
        await eventually(lambda: service.engine.live.streams.followed == 0)


async def watched(client, job_id):
    return [event async for event in client.watch(job=job_id)]


async def test_who_takes_nothing_stops_nobody_and_misses_nothing(service, client, monkeypatch):
    monkeypatch.setattr(subscriptions, "MOST", 10)
    async with client.watch(topic="t") as slow, client.watch(topic="t") as quick:
        for number in range(5):
            await asyncio.gather(*(client.publish("t", number) for _ in range(10)))
            assert [message.data for message in await taken(quick, 10)] == [number] * 10
        assert len(slow._subscription.items) == 10
        assert [message.id for message in await taken(slow, 50)] == list(range(1, 51))
        await client.publish("t", "more")
        assert [message.data for message in await taken(slow, 1)] == ["more"]


@pytest.mark.parametrize("way", ["break", "aclose", "cancel", "with"])
async def test_who_leaves_is_not_followed_any_more(service, client, gate, way):
    job = await client.submit("hold")
    streams = service.engine.live.streams
    if way == "break":
        async for _ in client.watch(job=job.id):
            break
        gc.collect()
    elif way == "with":
        async with client.watch(job=job.id):
            assert streams.followed == 1
    else:
        watch = client.watch(job=job.id)
        await taken(watch, 2)
        task = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
        if way == "aclose":
            await watch.aclose()
            with pytest.raises(StopAsyncIteration):
                await task
        else:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            del watch, task
            gc.collect()
    await eventually(lambda: streams.followed == 0)


async def test_a_client_that_is_closed_ends_its_watches(service, gate):
    async with Client(service.url) as client:
        job = await client.submit("hold")
        waiting = asyncio.create_task(client.wait(job.id))
        task = asyncio.create_task(watched(client, job.id))
        await eventually(lambda: service.engine.live.streams.followed == 1)
        left = client.watch(all=True)
        await left.__aenter__()
    for each in (waiting, task):
        with pytest.raises(Closed):
            await each
    with pytest.raises(Closed):
        await anext(left)
    await eventually(lambda: service.engine.live.listeners == 0)


# When the service or the network goes


async def test_a_network_that_is_cut_again_and_again_loses_and_doubles_nothing(service, gate):
    async with relaying(service.url) as relay, Client(relay.url) as client:
        job = await client.submit("report", {"steps": 60})
        async with client.watch(tag="x") as feed, client.watch(topic="t") as topic:
            events, watch = [], client.watch(job=job.id)
            for cut in range(4):
                await client.submit("add", {"left": cut, "right": 0}, tags=["x"])
                await client.publish("t", cut)
                events += await taken(watch, 10)
                relay.cut()
            events += [event async for event in watch]
            assert_all_of(events)
            assert events[-1].data["result"] == "done"
            fed = await taken(feed, 12)
            assert sorted(event.seq for event in fed) == [1] * 4 + [2] * 4 + [3] * 4
            assert [message.data for message in await taken(topic, 4)] == [0, 1, 2, 3]
    assert relay.connections > 4


async def test_a_peer_that_falls_silent_is_noticed(serve, gate):
    service = await serve(live_heartbeat=0.2)
    async with relaying(service.url) as relay, Client(relay.url, timeout=0.5) as client:
        job = await client.submit("hold")
        watch = client.watch(job=job.id)
        await taken(watch, 2)
        relay.passes_answers = relay.passes_requests = False
        await eventually(lambda: relay.connections > 2)
        relay.passes_answers = relay.passes_requests = True
        gate.set()
        assert (await taken(watch, 1))[0].event == "job.completed"


async def test_a_client_with_nothing_to_say_is_not_taken_for_dead(serve, gate):
    service = await serve(live_heartbeat=0.5)
    async with relaying(service.url) as relay, Client(relay.url) as client:
        job = await client.submit("hold")
        watch = client.watch(job=job.id)
        await taken(watch, 2)
        connections = relay.connections
        await asyncio.sleep(1.5)  # after two heartbeats of silence it would be sent away
        gate.set()
        assert (await taken(watch, 1))[0].event == "job.completed"
        assert relay.connections == connections


async def test_a_drain_is_waited_out(serve, gate, monkeypatch):
    monkeypatch.setattr(socket_session, "RECONNECT_AFTER", (0.4, 0.5))
    first, second = await serve(), await serve(role="web")
    async with relaying(second.url) as relay, Client(relay.url) as client:
        job = await client.submit("hold")
        watch = client.watch(job=job.id)
        assert len(await taken(watch, 2)) == 2
        began = asyncio.get_running_loop().time()
        relay.upstreams.insert(0, first.url)
        second.runtime.drain()
        await eventually(lambda: first.engine.live.listeners == 1)
        assert asyncio.get_running_loop().time() - began >= 0.3
        gate.set()
        assert (await taken(watch, 1))[0].event == "job.completed"


@pytest.mark.timeout(90)  # processes
async def test_a_kill_of_the_service_and_then_of_one_of_two_is_not_seen(tmp_path, database_url):
    """The first is killed while it is the only one and runs the job; then of two the one that has the client."""
    async with AsyncExitStack() as stack:

        async def started(role="all"):
            settings = {"QUARTERDECK_DATABASE_URL": database_url, "QUARTERDECK_LEASE": "3"}
            service = start_service(tmp_path, "tests.live.decks:deck", "--role", role, settings=settings)
            stack.enter_context(cleaned_up(service))
            await service.wait_until_ready()
            return service

        alone = await started()
        relay = await stack.enter_async_context(relaying(alone.url))
        client = await stack.enter_async_context(Client(relay.url, patience=60))
        job = await client.submit("tell", {"path": str(tmp_path / "done")})
        watch, events = client.watch(job=job.id), []
        waiting = asyncio.create_task(client.result(job.id))
        events += await taken(watch, 10)
        alone.kill()
        one, two = await asyncio.gather(started("web"), started())
        relay.upstreams[:] = [one.url, two.url]
        async with asyncio.timeout(30):
            while not events or events[-1].event != "job.started":
                events.append(await anext(watch))
            for _ in range(10):
                events.append(await anext(watch))
            one.kill()
            for _ in range(10):
                events.append(await anext(watch))
            (tmp_path / "done").touch()
            events += [event async for event in watch]
            assert await waiting == "told"
        assert_all_of(events)
        assert [event.event for event in events].count("job.rescued") >= 1
        assert events[-1].event == "job.completed"


async def test_a_service_that_stays_away_is_told_to_who_wants_to_know(service, gate):
    async with relaying(service.url) as relay, Client(relay.url, outlast=0.5) as client:
        job = await client.submit("hold")
        watch = client.watch(job=job.id)
        await taken(watch, 2)
        relay.upstreams.clear()
        relay.cut()
        with pytest.raises(Unreachable):
            await taken(watch, 1)
        relay.upstreams.append(service.url)
        assert len(await taken(client.watch(job=job.id), 2)) == 2
