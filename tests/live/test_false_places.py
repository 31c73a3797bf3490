"""Clients that claim to have what never was: nobody else suffers for it."""

import pytest


@pytest.mark.parametrize("after", [10**6, 2**63])
async def test_an_event_that_never_was_keeps_nobody_else_waiting(serve, service, http, gate, after):
    other = await serve(role="web")
    job = (await http.post("/v1/jobs", json={"kind": "hold"})).json()
    async with other.connected() as false, other.connected() as true:
        assert (await false.ask(op="subscribe", sub="a", job=job["id"], after=after))["type"] == "snapshot"
        await true.ask(op="subscribe", sub="a", job=job["id"], after=0)
        await true.until(lambda frame: frame.get("seq") == job["seq"])
        gate.set()
        assert [event["event"] for event in await true.events("a")] == ["job.completed"]
    assert not other.runtime.failed.is_set()
