"""An engine's life: whichever of its loops dies, the service knows; a start that is given up leaves nothing."""

import asyncio

from quarterdeck.bootstrap import Runtime
from quarterdeck.config import Settings
from quarterdeck.engine.lease import Lease
from tests.support.running import running
from tests.support.waiting import eventually


async def loops_of(runtime):
    """Every loop by its name, once the first producer runs, too."""
    runtime.engine.parts.producers.wake(["default"])
    tasks = runtime.engine.parts.tasks._tasks
    await eventually(lambda: "producer default" in tasks.values())
    return {name: task for task, name in tasks.items()}


async def test_a_loop_that_something_cancels_is_as_dead_as_one_that_raises(database_url):
    async with running(database_url) as runtime:
        loops = await loops_of(runtime)
        assert {"submitter", "completer", "tick", "executor", "heartbeat watch"} < set(loops)
        for task in loops.values():
            task.cancel()  # as a cancelled future does that it waits for
        deaths = runtime.engine.parts.tasks.deaths
        await eventually(
            lambda: {str(death) for death in deaths} == {f"the loop {name!r} was cancelled" for name in loops}
        )
        await eventually(lambda: runtime.failure)
        assert runtime.failure is deaths[0]


async def test_a_stop_is_no_death(database_url):
    async with running(database_url) as runtime:
        await loops_of(runtime)
        await runtime.stop(grace=0)
        assert runtime.failure is None


async def test_a_start_that_is_given_up_in_its_last_step_leaves_no_loop_and_no_lease(
    database_url, connection, monkeypatch
):
    begun = asyncio.Event()

    async def never(_lease, _timeout):
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Lease, "begun", never)
    runtime = Runtime(Settings(database_url=database_url))
    start = asyncio.create_task(runtime.start())
    await begun.wait()
    await eventually(lambda: connection.fetchval("select count(*) = 1 from quarterdeck.worker"))
    start.cancel()
    start.cancel()
    await asyncio.wait({start})
    await runtime.stop()
    assert await connection.fetchval("select count(*) from quarterdeck.worker") == 0
