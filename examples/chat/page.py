"""The chat in a browser: a Quart application of its own, which speaks to the service for its pages.

    hypercorn examples.chat.page:app --bind 127.0.0.1:8080

The service lets no page of another address in, and an API key has no business in a page. So a page talks to the
application that it came from, and that one holds a socket to the service for each page.
"""

import asyncio
import json
import os
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from quart import Quart, Response, abort, send_file, websocket

from examples.chat.room import Room

SERVICE = os.environ.get("QUARTERDECK_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("QUARTERDECK_API_KEY")
HISTORY = 50
LONGEST_LINE = 2000

app = Quart(__name__, static_folder=None)


@app.get("/")
async def page() -> Response:
    """The page."""
    return await send_file(Path(__file__).with_name("page.html"))


@app.get("/rooms/<room>/messages")
async def history(room: str) -> list[Any]:
    """The latest messages of a room, oldest first."""
    headers = {"Authorization": f"Bearer {KEY}"} if KEY else {}
    path = f"/v1/topics/chat.{room_of(room, 'history').room}/messages"
    async with httpx.AsyncClient(base_url=SERVICE, headers=headers) as http:
        answer = await http.get(path, params={"limit": HISTORY})
    if answer.is_error:
        abort(502)
    items: list[Any] = answer.json()["items"]
    return items[::-1]


@app.websocket("/rooms/<room>")
async def talk(room: str) -> None:
    """A page in a room: what it sends are lines to say, what it gets are the service's frames."""
    # A browser opens a socket to any address for any page, with the cookies of that address. It says whose page it is.
    origin = websocket.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != websocket.host:
        abort(403)
    place = room_of(room, websocket.args.get("name", "")[:40] or "somebody")
    after = websocket.args.get("after", 0, type=int)
    await websocket.accept()
    async with asyncio.TaskGroup() as both:
        both.create_task(listen(place, max(after, 0)))
        both.create_task(say(place))


async def listen(place: Room, after: int) -> None:
    """Passes on what the service says."""
    async with aclosing(place.frames(after)) as frames:
        async for frame in frames:
            await websocket.send(json.dumps(frame))


async def say(place: Room) -> None:
    """Passes on what the page says."""
    while True:
        line = str(await websocket.receive()).strip()[:LONGEST_LINE]
        if line:
            await place.enter(line)


def room_of(room: str, name: str) -> Room:
    """Somebody's place in a room; 404 where there can be none."""
    try:
        return Room(room, name, service=SERVICE, key=KEY)
    except ValueError:
        abort(404)
