"""Readiness: whether a process can serve just now, part by part."""

from __future__ import annotations

from typing import Literal

from quarterdeck.domain.errors import Unavailable
from quarterdeck.engine.calls import Calls
from quarterdeck.engine.lease import Lease
from quarterdeck.store.kinds import KindStore

Readiness = dict[str, Literal["ok", "starting", "draining", "unavailable"]]


async def readiness(kinds: KindStore, calls: Calls, lease: Lease, *, started: bool, draining: bool) -> Readiness:
    """How the database and the engine are."""
    found: Readiness = {"database": "ok", "engine": "ok"}
    try:
        await calls.call(kinds.ping())
    except Unavailable:
        found["database"] = "unavailable"
    if draining:
        found["engine"] = "draining"
    elif not started:
        found["engine"] = "starting"
    elif lease.worker() is None:
        found["engine"] = "unavailable"
    return found
