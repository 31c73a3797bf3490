"""A TCP relay in the test's own loop: the network between a client and a service, which can be cut or fall silent."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Relay:
    """Passes connections on to the first of its upstreams that takes them."""

    def __init__(self, upstreams: Sequence[str]) -> None:
        self.upstreams = list(upstreams)
        self.url = ""
        self.connections = 0
        self.refused = 0
        self.passes_requests = True
        self.passes_answers = True
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """End all connections at once, without a word."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        try:
            upstream_reader, upstream = await self._upstream()
        except ConnectionError:
            self.refused += 1
            writer.transport.abort()
            return
        self.connections += 1
        both = {writer, upstream}
        self._writers |= both
        try:
            await asyncio.gather(
                self._pump(reader, upstream, lambda: self.passes_requests),
                self._pump(upstream_reader, writer, lambda: self.passes_answers),
            )
        finally:
            self._writers -= both
            for each in both:
                each.transport.abort()

    async def _upstream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for url in self.upstreams:
            parts = urlsplit(url)
            with suppress(OSError):
                return await asyncio.open_connection(parts.hostname, parts.port)
        raise ConnectionError("no upstream takes connections")

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: Callable[[], bool]
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if passes():
                    writer.write(data)
                    await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def relaying(*upstreams: str) -> AsyncIterator[Relay]:
    """A relay to the services at these URLs."""
    relay = Relay(upstreams)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(relay.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    relay.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        relay.cut()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
