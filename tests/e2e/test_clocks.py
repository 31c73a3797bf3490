"""Replicas whose clocks are two hours off: every durable time is the database's, so nothing changes."""

import asyncio
import datetime as dt
from pathlib import Path

import pytest

from tests.e2e.rest import talking_to
from tests.support.processes import running_service

APP = "tests.e2e.decks:deck"
LEASE = 3.0
A_WHILE = dt.timedelta(minutes=1)
"""More than anything takes here, and much less than a clock is off."""

pytestmark = pytest.mark.timeout(120)


def clock_at(offset: str) -> dict[str, str]:
    """The environment of a process whose wall clock is `offset` away from the truth."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": offset,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }


def moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


async def test_clocks_that_are_hours_off_change_nothing(tmp_path, database_url):
    settings = {"QUARTERDECK_DATABASE_URL": database_url, "QUARTERDECK_LEASE": str(LEASE)}
    gate = tmp_path / "gate"
    async with (
        running_service(tmp_path, APP, settings=settings | clock_at("+2h")) as ahead,
        running_service(tmp_path, APP, settings=settings | clock_at("-2h")) as behind,
        talking_to(ahead) as rest,
        talking_to(behind) as other,
    ):
        both = (rest, other)
        held = [await service.submit("gate", args={"path": str(gate)}) for service in both]
        now = dt.datetime.now(dt.UTC)
        for job in held:
            assert abs(moment(job["created_at"]) - now) < A_WHILE

        delayed = await asyncio.gather(*(service.submit("turn", delay=1) for service in both * 5))
        late = await rest.submit("turn", run_at=(now + dt.timedelta(hours=1)).isoformat())
        short = await other.submit("turn", ttl=30, delay=0.5)
        for job in [*delayed, short]:
            ended = await rest.ended(job["id"])
            assert ended["state"] == "completed"
            waited = moment(ended["attempted_at"]) - moment(ended["run_at"])
            assert dt.timedelta(0) <= waited < A_WHILE
        assert {(await service.get(late["id"]))["state"] for service in both} == {"scheduled"}

        # Longer than a lease: nobody may think that the other is dead.
        await asyncio.sleep(LEASE * 1.5)
        workers = (await rest.client.get("/v1/workers")).json()["items"]
        assert {worker["pid"] for worker in workers} == {ahead.pid, behind.pid}
        gate.touch()
        for job in held:
            ended = await other.ended(job["id"])
            assert (ended["state"], ended["attempt"], ended["crashes"]) == ("completed", 1, 0)
