"""What the cache's own client makes good, tried with it and with aiomcache as it comes.

The bare library is expected to fail: once a release of it passes, this tells, and the code around it can go.
"""

import asyncio
import subprocess
import sys

import aiomcache
import pytest

from quarterdeck.store import memcached_server
from quarterdeck.store.memcached_server import MemcachedServer
from tests.support.bad_memcached import answering
from tests.support.waiting import eventually

SPINS = """
import asyncio, sys
import aiomcache
from quarterdeck.store.memcached_server import Client

async def hang_up(reader, writer):
    await reader.readline()
    writer.close()

async def main(make):
    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    client = make("127.0.0.1", server.sockets[0].getsockname()[1])
    try:
        async with asyncio.timeout(0.2):
            await client.set(b"key", b"value")
    except (OSError, TimeoutError):
        print("told")

asyncio.run(main({"bare": lambda *a: aiomcache.Client(*a, pool_size=1), "safe": Client}[sys.argv[1]]))
"""


@pytest.mark.parametrize(
    "client",
    ["safe", pytest.param("bare", marks=pytest.mark.xfail(reason="it spins", raises=subprocess.TimeoutExpired))],
)
def test_a_server_that_hangs_up_in_the_middle_of_an_answer_is_noticed(client):
    words = [sys.executable, "-c", SPINS, client]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30 if client == "safe" else 1.5, check=False)
    assert done.stdout == "told\n", done.stderr


class Bare:
    """aiomcache as one would use it."""

    def __init__(self, port):
        self._client = aiomcache.Client("127.0.0.1", port, pool_size=1)

    async def run(self, operation):
        return await operation(self._client)

    async def close(self):
        await self._client.close()


def safe(port):
    return MemcachedServer("127.0.0.1", port)


@pytest.mark.parametrize(
    "make", [safe, pytest.param(Bare, marks=pytest.mark.xfail(reason="aiomcache issue 91", raises=AssertionError))]
)
async def test_an_answer_that_nobody_waits_for_any_more_is_not_the_next_ones(make, monkeypatch):
    monkeypatch.setattr(memcached_server, "OPERATION_TIMEOUT", 5.0)
    asked = []

    async def answer(line, writer):
        asked.append(line)
        if line == b"incr slow 1\r\n":
            await asyncio.sleep(0.05)
            writer.write(b"111\r\n")
        elif line == b"incr quick 1\r\n":
            writer.write(b"222\r\n")

    async with answering(answer) as port:
        server = make(port)
        slow = asyncio.create_task(server.run(lambda client: client.incr(b"slow")))
        await eventually(lambda: asked)
        slow.cancel()
        await asyncio.wait([slow])
        try:
            assert await server.run(lambda client: client.incr(b"quick")) == 222
        finally:
            await server.close()
