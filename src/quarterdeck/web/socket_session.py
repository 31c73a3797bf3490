"""SocketSession: one client of the live channel, from its first frame on."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any, NoReturn

import msgspec

from quarterdeck.domain import jsonvalue
from quarterdeck.domain.errors import FieldError
from quarterdeck.domain.jsonvalue import locate
from quarterdeck.domain.ticket import Ticket
from quarterdeck.engine.service import Engine
from quarterdeck.telemetry.log import get_logger
from quarterdeck.web import strictjson
from quarterdeck.web.allowance import Allowance
from quarterdeck.web.auth import Access, Principal
from quarterdeck.web.frames import (
    AnyClientFrame,
    AuthFrame,
    CancelFrame,
    ClientFrame,
    DrainFrame,
    ErrorFrame,
    PingFrame,
    PingRequest,
    PongFrame,
    PongReply,
    PublishFrame,
    SubmitFrame,
    SubscribeFrame,
    UnsubscribedFrame,
    UnsubscribeFrame,
    text_of,
)
from quarterdeck.web.problems import BAD_REQUEST, INVALID, NOT_FOUND, Refusal, refusal_of
from quarterdeck.web.socket import BAD_FRAME, STOP_TIMEOUT, Socket, SocketClosed
from quarterdeck.web.socket_requests import Requests
from quarterdeck.web.subscriptions import Ended, Subscription

log = get_logger(__name__)

FRAMES = (500.0, 1500.0)
"""Frames a second, and at once, that a client may send."""
BYTES = (4.0 * 2**20, 8.0 * 2**20)
"""Bytes of frames, likewise."""
MAX_REQUESTS = 32
"""Requests of a client that are under way; it is not read further meanwhile."""
MAX_SUBSCRIPTIONS = 5000
MAX_UNSENT = 1000
"""Answers that wait to be sent; a client that sends without reading is not read further meanwhile."""
SILENT = 4408
TOO_FAST = 4429
RESTARTING = 1012
LEAVE_WITHIN = 2.0
"""Seconds from the beginning of a stop after which a client that does not read what it is told is cut off."""
AGAIN = 0.1
"""Seconds after which a subscription that has something to take, and could not give it, is asked again."""
RECONNECT_AFTER = (0.5, 3.0)
"""Seconds, drawn evenly, after which clients of a process that stops come back: not all at once."""

_MAX_DEPTH = strictjson.MAX_DEPTH + 2  # a job stands in a frame, perhaps in a list
_FRAMES_BY_OP: dict[str, type[ClientFrame]] = {frame.__struct_config__.tag: frame for frame in AnyClientFrame.__args__}


class SocketSession:
    """Reads frames and obeys them; sends answers first, and what was followed in turns."""

    def __init__(
        self,
        engine: Engine,
        socket: Socket,
        principal: Principal,
        limit: Ticket | None,
        *,
        heartbeat: float,
        access: Access,
    ) -> None:
        self._engine = engine
        self._socket = socket
        self._access = access
        self._heartbeat = heartbeat
        self._requests = Requests(engine, principal, limit, ready=self._ready)
        self._subscriptions: dict[str, Subscription] = {}
        self._beginning: dict[str, asyncio.Task[None]] = {}
        self._to_visit: dict[str, None] = {}
        self._unsent: deque[str] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()
        self._something = asyncio.Event()
        self._frames = Allowance(*FRAMES)
        self._bytes = Allowance(*BYTES)
        self._heard = time.monotonic()
        self._pinged = False
        self._draining = False

    async def run(self) -> None:
        """Serves the client until either side closes the socket. Raises SocketClosed."""
        with self._engine.live.audience(self._drain):
            reader = asyncio.create_task(self._read(), name="quarterdeck-socket-reader")
            try:
                await self._write(reader)
            finally:
                tasks = [reader, *self._under_way]
                for task in tasks:
                    task.cancel()
                for subscription in self._subscriptions.values():
                    subscription.close()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _wake(self) -> None:
        self._something.set()

    def _ready(self, sub: str) -> None:
        """A subscription may have something."""
        self._to_visit[sub] = None
        self._something.set()

    def _drain(self) -> None:
        self._draining = True
        self._wake()
        asyncio.get_running_loop().call_later(LEAVE_WITHIN, self._socket.cut)

    # Reading

    async def _read(self) -> None:
        while True:
            text = await self._socket.receive()
            self._heard, self._pinged = time.monotonic(), False
            if not (self._frames.take() and self._bytes.take(len(text))):
                self._socket.close(TOO_FAST, "too fast", within=STOP_TIMEOUT)
                raise SocketClosed
            await self._obey(text)
            while len(self._under_way) >= MAX_REQUESTS or len(self._unsent) >= MAX_UNSENT:
                self._room.clear()
                await self._room.wait()

    async def _obey(self, text: str) -> None:
        names: dict[str, str] = {}
        try:
            document = await self._decoded(text, names)
            names = _names(document)
            frame = _frame(document)
            match frame:
                case PingFrame():
                    self._answer(text_of(PongReply()))
                case PongFrame():
                    pass
                case AuthFrame():
                    self._authenticate(frame)
                case UnsubscribeFrame():
                    await self._unsubscribe(frame.sub)
                case SubscribeFrame():
                    self._require_new(frame.sub)
                    self._beginning[frame.sub] = self._spawn(self._subscribe(frame))
                case SubmitFrame() | CancelFrame() | PublishFrame():
                    name = _watched_as(frame)
                    if name is None:
                        self._spawn(self._request(frame))
                    else:
                        self._require_new(name)
                        self._beginning[name] = self._spawn(self._request(frame))
        except SocketClosed:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer is a problem
            self._refuse(error, names)

    async def _decoded(self, text: str, names: dict[str, str]) -> dict[str, Any]:
        try:
            document = strictjson.decode(text.encode("utf-8", "surrogatepass"), _MAX_DEPTH)
        except Refusal as refusal:
            if refusal.family is INVALID:
                names.update(_names_in(text))
                raise
            self._socket.close(BAD_FRAME, "a frame must be a JSON object in text")
            raise SocketClosed from None
        if not isinstance(document, dict):
            self._socket.close(BAD_FRAME, "a frame must be a JSON object in text")
            raise SocketClosed
        return document

    def _authenticate(self, frame: AuthFrame) -> None:
        if self._access.recognise(frame.token) is None:
            raise Refusal(BAD_REQUEST, "This socket knows already who asks")

    def _require_new(self, sub: str) -> None:
        if sub in self._subscriptions or sub in self._beginning:
            raise Refusal(BAD_REQUEST, f"There is a subscription {sub!r} already; unsubscribe it first")
        if len(self._subscriptions) + len(self._beginning) >= MAX_SUBSCRIPTIONS:
            raise Refusal(BAD_REQUEST, f"A socket has at most {MAX_SUBSCRIPTIONS} subscriptions")

    async def _subscribe(self, frame: SubscribeFrame) -> None:
        try:
            subscription = await self._requests.subscription(frame)
            try:
                frames = await subscription.begin()
            except BaseException:
                subscription.close()
                raise
            self._follow(frame.sub, subscription, frames)
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer is a problem
            self._refuse(error, {"sub": frame.sub})
        finally:
            del self._beginning[frame.sub]

    def _follow(self, sub: str, subscription: Subscription, frames: Any) -> None:
        self._subscriptions[sub] = subscription
        self._answer(*frames)
        self._ready(sub)

    async def _unsubscribe(self, sub: str) -> None:
        if (beginning := self._beginning.get(sub)) is not None:
            await asyncio.wait({beginning})
        subscription = self._subscriptions.pop(sub, None)
        if subscription is None:
            raise Refusal(BAD_REQUEST, f"There is no subscription {sub!r}")
        subscription.close()
        self._answer(text_of(UnsubscribedFrame(sub)))

    async def _request(self, frame: SubmitFrame | CancelFrame | PublishFrame) -> None:
        try:
            match frame:
                case SubmitFrame():
                    answer, watched = await self._requests.submit(frame)
                    self._answer(answer)
                    if watched is not None:
                        self._follow(frame.sub or frame.ref, watched, ())
                case CancelFrame():
                    self._answer(await self._requests.cancel(frame))
                case PublishFrame():
                    self._answer(await self._requests.publish(frame))
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer is a problem
            self._refuse(error, {"ref": frame.ref})
        finally:
            if (name := _watched_as(frame)) is not None:
                del self._beginning[name]

    def _spawn(self, request: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(request)
        self._under_way.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._room.set()

    def _refuse(self, error: Exception, names: dict[str, str]) -> None:
        refusal = refusal_of(error)
        frame = ErrorFrame(ref=names.get("ref"), sub=names.get("sub"), problem=refusal.problem)
        self._answer(text_of(frame))

    # Writing

    def _answer(self, *frames: str) -> None:
        self._unsent.extend(frames)
        self._wake()

    async def _write(self, reader: asyncio.Task[None]) -> None:
        reader.add_done_callback(lambda _: self._wake())
        while True:
            self._something.clear()
            await self._send_answers()
            if self._draining:
                await leave(self._socket)
            if reader.done():
                reader.result()  # raises SocketClosed, or what nobody expected
            if not await self._send_followed():
                await self._rest()

    async def _send_answers(self) -> None:
        while self._unsent:
            frames = list(self._unsent)
            self._unsent.clear()
            await self._socket.send(frames)
            self._room.set()

    async def _send_followed(self) -> bool:
        """Gives every subscription that may have something its turn; says whether there is more."""
        turn, self._to_visit = self._to_visit, {}
        for sub in turn:
            if self._draining:  # while the database is out, every turn may take its time
                break
            subscription = self._subscriptions.get(sub)
            if subscription is None or not subscription.pending:
                continue
            frames, over = await self._take(sub, subscription)
            if over and self._subscriptions.get(sub) is subscription:
                del self._subscriptions[sub]
                subscription.close()
            if frames:
                await self._socket.send(frames)
                self._to_visit[sub] = None
            elif not over:
                # The database is out, or there is much to look through: nobody else says when to go on.
                asyncio.get_running_loop().call_later(AGAIN, self._ready, sub)
            await self._send_answers()
        return bool(self._to_visit)

    async def _take(self, sub: str, subscription: Subscription) -> tuple[Any, bool]:
        """The next frames of a subscription, and whether it is over."""
        try:
            return await subscription.take(), False
        except Ended as ended:
            return ended.frames, True
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer is a problem
            refusal = refusal_of(error)
            if refusal.status == 503:
                return (), False
            return [text_of(ErrorFrame(sub=sub, problem=refusal.problem))], True

    async def _rest(self) -> None:
        """Waits for something to send, and sees to it that the client is there."""
        silent = time.monotonic() - self._heard
        if silent >= 2 * self._heartbeat:
            self._socket.close(SILENT, "silent for two heartbeats")
            raise SocketClosed
        if silent >= self._heartbeat and not self._pinged:
            self._pinged = True
            await self._socket.send([text_of(PingRequest())])
        until = self._heartbeat * (2 if self._pinged else 1) - silent
        try:
            async with asyncio.timeout(max(0.001, until)):
                await self._something.wait()
        except TimeoutError:
            pass


async def leave(socket: Socket) -> NoReturn:
    """Says that this process stops, and when to connect again. Raises SocketClosed."""
    after = round(random.uniform(*RECONNECT_AFTER), 1)
    await socket.send([text_of(DrainFrame(after))])
    socket.close(RESTARTING, "restarting")
    raise SocketClosed


def _watched_as(frame: ClientFrame) -> str | None:
    """The subscription that a submit asks for, if it does."""
    return (frame.sub or frame.ref) if isinstance(frame, SubmitFrame) and frame.watch else None


def _frame(document: dict[str, Any]) -> ClientFrame:
    op = document.get("op")
    kind = _FRAMES_BY_OP.get(op) if isinstance(op, str) else None
    if kind is None:
        known = ", ".join(_FRAMES_BY_OP)
        raise Refusal(INVALID, f"There is no such op; there are: {known}", errors=[FieldError("/op", "unknown")])
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        found = locate(error)
        if found.pointer == "/job" and found.detail == "invalid UUID":  # as over REST, where it is in the path
            raise Refusal(NOT_FOUND, "There is no such job: the id is not a UUID") from None
        raise Refusal(INVALID, "The frame does not fit", errors=[found]) from None


def _names(document: Any) -> dict[str, str]:
    """What the client calls its frame, as far as that can be said back to it."""
    found = {name: document.get(name) for name in ("ref", "sub")} if isinstance(document, dict) else {}
    return {name: value for name, value in found.items() if isinstance(value, str) and not jsonvalue.check(value)}


def _names_in(text: str) -> dict[str, str]:
    """The same for a frame with something in it that cannot be stored."""
    try:
        return _names(json.loads(text))
    except (ValueError, RecursionError):  # digits by the thousand, for example
        return {}
