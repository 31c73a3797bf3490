"""Whether the process lives, and whether it can serve."""

from __future__ import annotations

from typing import Literal

import msgspec
import quart

from quarterdeck.domain.errors import Unavailable
from quarterdeck.web.endpoint import Call, endpoint, json_response


class Live(msgspec.Struct, frozen=True):
    """`failed`: an inner loop died, and the process is about to end."""

    status: Literal["live", "failed"]


class Ready(msgspec.Struct, frozen=True):
    """Whether work is taken, and how it stands with the parts that are needed for it."""

    status: Literal["ready", "not ready"]
    database: Literal["ok", "unavailable"]
    engine: Literal["ok", "starting", "draining", "unavailable"]


@endpoint("GET", "/livez", summary="Whether the process lives", responses={200: Live, 503: Live})
async def livez(call: Call) -> quart.Response:
    """503 once a loop that must never end has ended: such a process should be replaced."""
    if call.service.failure is not None:
        return json_response(503, Live("failed"))
    return json_response(200, Live("live"))


@endpoint("GET", "/readyz", summary="Whether the process can serve", responses={200: Ready, 503: Ready})
async def readyz(call: Call) -> quart.Response:
    """503 while starting and stopping, and while the database cannot be reached; the body says which."""
    ready = await _look(call)
    return json_response(200 if ready.status == "ready" else 503, ready)


ENDPOINTS = (livez, readyz)


async def _look(call: Call) -> Ready:
    service = call.service
    try:
        parts = await service.engine.readiness()
    except Unavailable:
        return Ready("not ready", "unavailable", "draining" if service.draining else "starting")
    engine = "draining" if service.draining else parts["engine"]
    database: Literal["ok", "unavailable"] = "ok" if parts["database"] == "ok" else "unavailable"
    ready = database == engine == "ok" and service.failure is None
    return Ready("ready" if ready else "not ready", database, engine)
