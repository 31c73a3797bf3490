"""DemoWeb: a small web server in the demo's own process, for its jobs to call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PAGES = 20
BUSY = 3
"""Pages that are not there at the first time of asking."""

_LONGEST_REQUEST = 10.0


class DemoWeb:
    """Pages with numbers; the first few answer 503 when they are first asked for, as busy servers do."""

    def __init__(self) -> None:
        self.url = ""
        self.requests = 0
        self._asked: set[str] = set()

    def addresses(self) -> list[str]:
        """Of every page."""
        return [f"{self.url}/{number}" for number in range(1, PAGES + 1)]

    def page(self, address: str) -> dict[str, object]:
        """What stands on a page."""
        return {"page": int(address.rpartition("/")[2]), "of": PAGES}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request, and closes."""
        try:
            async with asyncio.timeout(_LONGEST_REQUEST):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head.decode("latin-1").split(" ", 2)[1]))
                await writer.drain()
        except (OSError, ValueError, IndexError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever that was, it was no job of ours
        finally:
            writer.close()

    def _answer(self, path: str) -> bytes:
        self.requests += 1
        number = int(path.removeprefix("/"))
        if number <= BUSY and path not in self._asked:
            self._asked.add(path)
            return (
                b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
        body = json.dumps(self.page(path)).encode()
        return (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )


@asynccontextmanager
async def demo_web() -> AsyncIterator[DemoWeb]:
    """Serves on a free port of this machine alone."""
    web = DemoWeb()
    serving: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        one = asyncio.ensure_future(web.serve(reader, writer))
        serving.add(one)
        one.add_done_callback(serving.discard)

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    web.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield web
    finally:
        server.close()
        for one in serving:
            one.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
