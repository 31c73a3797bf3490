"""Services with their live channel on real sockets, in the test's own loop."""

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
from hypercorn.config import Config

from quarterdeck import JobContext, Snooze
from quarterdeck.bootstrap import Runtime
from quarterdeck.cli.connections import Connections
from quarterdeck.config import Settings
from quarterdeck.web.app import create_app
from tests.support.handlers import plain_deck
from tests.support.running import worker_of
from tests.support.sockets import connected
from tests.support.waiting import eventually


@pytest.fixture
def gate():
    """What jobs of the kind `hold` wait for."""
    return asyncio.Event()


@pytest.fixture
def deck(gate):
    deck = plain_deck(gate, attempts=2)

    @deck.handler()
    async def nap(ctx: JobContext) -> str | Snooze:
        return Snooze(0.01) if ctx.job.seq < 4 else "rested"

    @deck.handler()
    async def report(ctx: JobContext, steps: int = 3) -> str:
        for step in range(1, steps + 1):
            await ctx.progress(step / steps, f"{step} of {steps}")
            await ctx.log(f"step {step}")
            await ctx.output({"step": step})
        return "done"

    @deck.handler()
    async def stroll(ctx: JobContext) -> None:
        for step in range(6):
            await asyncio.sleep(0.015)
            await ctx.log(f"step {step}")

    return deck


class Service:
    """A service on a port."""

    def __init__(self, runtime, connections, url):
        self.runtime = runtime
        self.connections = connections
        self.url = url

    @property
    def engine(self):
        return self.runtime.engine

    def connected(self, **options):
        """A stock client's socket."""
        return connected(self.url, **options)


@asynccontextmanager
async def serving(database_url, deck, **settings):
    """A service on a free port, behind the connections of `qd serve`; over TLS with a file of key and certificate."""
    certificate = settings.pop("certificate", None)
    settings = {"shutdown_grace": 0, **settings}
    runtime = Runtime(Settings(database_url=database_url, **settings), deck)
    app = create_app(runtime)
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http{'s' if certificate else ''}://127.0.0.1:{listener.getsockname()[1]}"
    config = Config()
    config.websocket_ping_interval = 20
    config.certfile = config.keyfile = certificate
    config.websocket_max_message_size = 256 * 1024
    config.accesslog = config.errorlog = None
    connections = Connections(app, config, listener)
    async with app.test_app():
        await eventually(lambda: worker_of(runtime))
        await connections.open()
        try:
            yield Service(runtime, connections, url)
        finally:
            runtime.drain()
            await connections.refuse()
            await connections.see_off(5)


@pytest.fixture
async def serve(database_url, deck):
    """Starts services on the test's database: `service = await serve(role="web")`."""
    async with AsyncExitStack() as stack:

        async def start(**settings):
            return await stack.enter_async_context(serving(database_url, settings.pop("deck", deck), **settings))

        yield start


@pytest.fixture
async def service(serve):
    return await serve()


@pytest.fixture
async def http(service):
    async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=20) as http:
        yield http


@pytest.fixture
async def peer(service):
    async with service.connected() as peer:
        yield peer
