"""A job's events for whoever submitted it in the service's own process."""

import asyncio

import pytest

from quarterdeck import JobNotFound, Unavailable
from tests.support.running import running
from tests.support.waiting import eventually


async def test_events_come_to_the_end_with_their_data(database_url, deck):
    async with running(database_url, deck):
        job = await deck.submit("report", {"steps": 1})
        events = [event async for event in job.events()]
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert [event.event for event in events][-1] == "job.completed"
        assert events[-1].data == {"state": "completed", "result": "done"}
        assert next(event for event in events if event.event == "job.output").data == {"output": {"step": 1}}
        later = [event.seq async for event in job.events(after=2)]
        assert later == [event.seq for event in events[2:]]


async def test_after_the_last_there_are_none(database_url, deck):
    async with running(database_url, deck) as runtime:
        job = await deck.submit("add", {"left": 1, "right": 2})
        await job.result(10)
        assert [event async for event in job.events(after=(await job.job()).seq)] == []
        await runtime.engine.job_edits.delete(job.id)
        with pytest.raises(JobNotFound):
            await anext(job.events())


async def test_a_service_that_stops_ends_them(database_url, deck, gate):
    async with running(database_url, deck) as runtime:
        job = await deck.submit("hold")
        seen = {}

        async def follow():
            async for event in job.events():
                seen[event.seq] = event

        following = asyncio.create_task(follow())
        await eventually(lambda: list(seen) == [1, 2])
        runtime.drain()
        with pytest.raises(Unavailable):
            await asyncio.wait_for(following, 10)


async def test_who_stops_to_look_leaves_nothing(database_url, deck, gate):
    async with running(database_url, deck) as runtime:
        job = await deck.submit("hold")
        events = job.events()
        assert (await anext(events)).event == "job.submitted"
        assert runtime.engine.live.streams.followed == 1
        await events.aclose()
        assert runtime.engine.live.streams.followed == 0
