"""The frames of the live channel: what clients send, what they get, and how events look in it."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from quarterdeck.clock import rfc3339
from quarterdeck.domain.events import Event, EventName, moment
from quarterdeck.domain.topic import Message
from quarterdeck.web.problems import Problem
from quarterdeck.web.schemas import JobBody

SUBPROTOCOL = "quarterdeck.v1.json"

Label = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
"""What a client calls a subscription or a request of its own."""
MAX_JOBS = 1000
"""Jobs that one frame may submit."""

_encode = msgspec.json.Encoder().encode


class ClientFrame(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="op"):
    """What a client may send."""


class AuthFrame(ClientFrame, frozen=True, tag="auth"):
    """Says who asks, where neither the header nor the query did: `token` is an API key, or a ticket."""

    token: str


class SubscribeFrame(ClientFrame, frozen=True, tag="subscribe", kw_only=True):
    """Begins to follow exactly one of: a job, a queue, a kind, a tag, a workflow, a batch, a topic, all jobs.

    Of a job, `after` is the last event that the client has, and `wait` allows one that does not exist yet. Of the
    others, `cursor` is the cursor of the last event, or the id of the last message, that the client has.
    """

    sub: Label
    job: uuid.UUID | None = None
    queue: str | None = None
    kind: str | None = None
    tag: str | None = None
    workflow: uuid.UUID | None = None
    batch: uuid.UUID | None = None
    topic: str | None = None
    all: Literal[True] | None = None
    after: Annotated[int, msgspec.Meta(ge=0)] | None = None
    cursor: str | int | None = None
    wait: bool = False

    TARGETS: ClassVar = ("job", "queue", "kind", "tag", "workflow", "batch", "topic", "all")

    def targets(self) -> list[str]:
        """Which of the targets are given."""
        return [name for name in self.TARGETS if getattr(self, name) is not None]


class UnsubscribeFrame(ClientFrame, frozen=True, tag="unsubscribe"):
    """Ends a subscription."""

    sub: Label


class SubmitFrame(ClientFrame, frozen=True, tag="submit", kw_only=True):
    """Submits one `job`, or several `jobs`: all or, where one cannot be accepted, none.

    Each is as in `POST /v1/jobs` and may carry an `idempotency_key`. With `watch` their events follow under `sub` (by
    default the `ref`), until each has ended.
    """

    ref: Label
    job: dict[str, Any] | None = None
    jobs: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1, max_length=MAX_JOBS)] | None = None
    watch: bool = False
    sub: Label | None = None


class CancelFrame(ClientFrame, frozen=True, tag="cancel"):
    """Cancels a job, or asks it to stop where it runs."""

    ref: Label
    job: uuid.UUID


class PublishFrame(ClientFrame, frozen=True, tag="publish"):
    """Publishes a message to a topic."""

    ref: Label
    topic: str
    data: Any


class PingFrame(ClientFrame, frozen=True, tag="ping"):
    """Asks for a pong."""


class PongFrame(ClientFrame, frozen=True, tag="pong"):
    """Answers a ping, as any other frame does."""


AnyClientFrame = (
    AuthFrame | SubscribeFrame | UnsubscribeFrame | SubmitFrame | CancelFrame | PublishFrame | PingFrame | PongFrame
)


class ServerFrame(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """What a client gets."""


class HelloFrame(ServerFrame, frozen=True, tag="hello"):
    """The first: the seconds after which a silent client is pinged. After twice as many it is disconnected."""

    heartbeat: float


class SnapshotFrame(ServerFrame, frozen=True, tag="snapshot"):
    """The job that is followed, as it is now."""

    sub: str
    job: JobBody


class SubscribedFrame(ServerFrame, frozen=True, tag="subscribed"):
    """A feed or a topic is followed from here on."""

    sub: str
    cursor: str


class UnsubscribedFrame(ServerFrame, frozen=True, tag="unsubscribed"):
    """A subscription has ended."""

    sub: str


class EventFrame(ServerFrame, frozen=True, tag="event", kw_only=True):
    """Something happened to a job; `data` carries what changed.

    Of several `job.progress` that became one, `merged_from` is the first seq and `seq` the last.
    """

    sub: str
    event: EventName
    job_id: uuid.UUID
    seq: int
    generation: int
    cursor: str
    at: str
    data: dict[str, Any]
    merged_from: int | None = None


class MessageFrame(ServerFrame, frozen=True, tag="message", kw_only=True):
    """Something was published to a topic."""

    sub: str
    topic: str
    id: int
    at: str
    data: Any


class GapFrame(ServerFrame, frozen=True, tag="gap"):
    """Something was missed; it goes on from `cursor`."""

    sub: str
    cursor: str


class SubmittedFrame(ServerFrame, frozen=True, tag="submitted"):
    """The jobs are stored. Those in `duplicates` (by id) are earlier ones, which have the unique keys."""

    ref: str
    job: JobBody | None = None
    jobs: list[JobBody] | None = None
    duplicates: list[uuid.UUID] = []


class OkFrame(ServerFrame, frozen=True, tag="ok"):
    """What was asked for is done."""

    ref: str
    id: int | None = None


class PongReply(ServerFrame, frozen=True, tag="pong"):
    """Answers a ping."""


class PingRequest(ServerFrame, frozen=True, tag="ping"):
    """Asks a silent client for any frame."""


class ErrorFrame(ServerFrame, frozen=True, tag="error", kw_only=True):
    """A frame could not be obeyed, or a subscription cannot go on."""

    ref: str | None = None
    sub: str | None = None
    problem: Problem


class DrainFrame(ServerFrame, frozen=True, tag="drain"):
    """This process stops: connect again after so many seconds."""

    reconnect_after: float


AnyServerFrame = (
    HelloFrame
    | SnapshotFrame
    | SubscribedFrame
    | UnsubscribedFrame
    | EventFrame
    | MessageFrame
    | GapFrame
    | SubmittedFrame
    | OkFrame
    | PongReply
    | PingRequest
    | ErrorFrame
    | DrainFrame
)


def text_of(frame: ServerFrame) -> str:
    """A frame as it is sent."""
    return _encode(frame).decode()


def event_fields(event: Event, cursor: str) -> str:
    """An event as the inside of a JSON object, but for `type` and `sub`: the same for everybody who follows it."""
    merged = {} if event.merged_from is None else {"merged_from": event.merged_from}
    fields = {
        "event": event.event,
        "job_id": event.job_id,
        "seq": event.seq,
        "generation": event.generation,
        "cursor": cursor,
        "at": rfc3339(moment(event.at)),
        "data": event.data,
        **merged,
    }
    return _encode(fields)[1:-1].decode()


def message_fields(topic: str, message: Message) -> str:
    """A message in the same way."""
    fields = {"topic": topic, "id": message.id, "at": rfc3339(message.at), "data": message.data}
    return _encode(fields)[1:-1].decode()
