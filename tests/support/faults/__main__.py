"""The proxy as a process of its own: commands in, answers out, one JSON document a line each.

    python -m tests.support.faults --upstream DSN [--seed N] [--port N]

It says `{"dsn": …}` first and ends with its stdin. The commands are those of `control.Command`.
"""

import argparse
import asyncio
import sys
from contextlib import suppress

import msgspec

from tests.support.faults.control import Command, Control
from tests.support.faults.proxy import FaultyProxy


async def _serve(proxy: FaultyProxy) -> None:
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with proxy:
        _say({"dsn": proxy.dsn})
        control = Control(proxy)
        while line := await lines.readline():
            try:
                command = msgspec.json.decode(line, type=Command)
                _say(await control.obey(command))
            except (msgspec.MsgspecError, LookupError, OSError) as error:
                _say({"error": f"{type(error).__name__}: {error}"})


def _say(answer: object) -> None:
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
    sys.stdout.flush()


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.faults")
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(FaultyProxy(options.upstream, seed=options.seed, port=options.port)))


_main()
