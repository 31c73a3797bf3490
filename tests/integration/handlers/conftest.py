"""Calls as the handler of `quarterdeck.http` makes them, without a service around it."""

import uuid
from types import SimpleNamespace

import pytest

from quarterdeck.domain.handler import JobContext
from quarterdeck.handlers import Outbound, built_in
from quarterdeck.handlers.http import KIND

JOB = uuid.UUID("01936b2e-0000-7000-8000-000000000001")
LOOPBACK = ["127.0.0.0/8", "::1"]


@pytest.fixture
async def outbound():
    """Reaches loopback addresses, too."""
    outbound = Outbound(LOOPBACK)
    yield outbound
    await outbound.close()


@pytest.fixture
def call(outbound):
    """Makes a call, as an attempt of a job does: `await call(url, method="PUT")`."""

    async def make(url, *, through=outbound, timeout=60.0, **args):
        handler = next(handler for handler in built_in(through) if handler.kind == KIND)
        ctx = JobContext(SimpleNamespace(id=JOB, timeout=timeout), None, {}, None, fence=3)
        return await handler.function(ctx=ctx, **handler.bind({"url": url, **args}))

    return make
