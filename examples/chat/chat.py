"""The chat in a terminal.

python -m examples.chat.chat lobby ada
"""

import argparse
import asyncio
import os
import sys
import threading
from contextlib import aclosing, suppress

from websockets.exceptions import ConnectionClosed

from examples.chat.room import Room, as_line


async def chat(room: Room) -> None:
    """Prints what is said in the room, and says what is typed, until there is nothing more to read."""
    printer = asyncio.create_task(show(room))
    lines = typed()
    try:
        while True:
            next_line = asyncio.create_task(lines.get())
            await asyncio.wait({printer, next_line}, return_when=asyncio.FIRST_COMPLETED)
            if printer.done():
                next_line.cancel()
                printer.result()  # raises what ended it
            line = await next_line
            if line is None:
                return
            if line:
                with suppress(ConnectionClosed):  # lost on its way; who typed it sees that it does not come back
                    await room.enter(line)
    finally:
        printer.cancel()
        await asyncio.gather(printer, return_exceptions=True)


async def show(room: Room) -> None:
    """Prints what is said."""
    async with aclosing(room.frames()) as frames:
        async for frame in frames:
            print(as_line(frame), flush=True)


def typed() -> asyncio.Queue[str | None]:
    """Lines from the terminal, and None after the last: a thread reads them, and waits where the loop must not."""
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        with suppress(RuntimeError):  # the loop is closed
            for line in sys.stdin:
                loop.call_soon_threadsafe(lines.put_nowait, line.strip())
            loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, daemon=True).start()
    return lines


def main() -> None:
    """Reads the arguments and begins."""
    parser = argparse.ArgumentParser(prog="chat", description="Talk in a room.")
    parser.add_argument("room")
    parser.add_argument("name")
    parser.add_argument("--url", default=os.environ.get("QUARTERDECK_URL", "http://127.0.0.1:8000"))
    given = parser.parse_args()
    room = Room(given.room, given.name, service=given.url, key=os.environ.get("QUARTERDECK_API_KEY"))
    with suppress(KeyboardInterrupt):
        asyncio.run(chat(room))


if __name__ == "__main__":
    main()
