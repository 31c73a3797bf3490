"""The live channel's description (AsyncAPI 3.0), made from the types of its frames."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import msgspec

from quarterdeck.domain.job import JobError, Progress
from quarterdeck.domain.submission import Submit
from quarterdeck.version import __version__
from quarterdeck.web import notes
from quarterdeck.web.frames import SUBPROTOCOL, AnyClientFrame, AnyServerFrame, SubmitFrame
from quarterdeck.web.live import PATH, UNAUTHENTICATED
from quarterdeck.web.refinement import REF, Schema, public_name, refined_type
from quarterdeck.web.socket import BAD_FRAME, FAILED, FRAME_TOO_LARGE, MAX_FRAME, TOO_SLOW
from quarterdeck.web.socket_session import RESTARTING, SILENT, TOO_FAST

_CHANNEL = "live"
_FORBIDDEN = 4403  # part of the interface; whoever may ask at all may use the channel, so nothing sends it yet
_CODES = {
    BAD_FRAME: "a frame that is no JSON object in text",
    UNAUTHENTICATED: "nobody that is known",
    _FORBIDDEN: "forbidden; there are no keys yet that may not use the channel",
    SILENT: "silent for two heartbeats",
    FRAME_TOO_LARGE: f"a frame of more than {MAX_FRAME} bytes; also 1009",
    TOO_FAST: "too fast",
    FAILED: "something failed here",
    RESTARTING: "this process restarts; it says `drain` before",
    TOO_SLOW: "the client reads too slowly",
}
_ABOUT = (
    f"Submit jobs and watch them over one WebSocket, subprotocol `{SUBPROTOCOL}`: one JSON object in each text frame. "
    "The server begins with `hello`. Who asks is said by a bearer key in the handshake, a single-use `ticket` in the "
    "query, or a first frame `auth` with either. Values of more than 64 KiB in `data` are "
    '`{"$truncated": bytes}`. Of one job each `seq` comes once and in order, whichever replica serves the '
    "socket and whenever one connects again. The socket is closed with: "
    + "; ".join(f"{code}, {meaning}" for code, meaning in sorted(_CODES.items()))
    + "."
)


def document(*, keys_required: bool = False) -> dict[str, Any]:
    """The description of the channel."""
    client, server = list(get_args(AnyClientFrame)), list(get_args(AnyServerFrame))
    schemas = _schemas([*client, *server])
    messages = {frame.__name__: _message(frame, schemas) for frame in (*client, *server)}
    described: dict[str, Any] = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Quarterdeck",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            _CHANNEL: {
                "address": PATH,
                "title": "The live channel",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET", "query": _QUERY, "bindingVersion": "0.1.0"}},
            }
        },
        "operations": {
            "receive": _operation("receive", "What a client may send", client, keys_required=keys_required),
            "send": _operation("send", "What a client gets", server, keys_required=keys_required),
        },
        "components": {
            "schemas": schemas,
            "messages": messages,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key"},
                "ticket": {
                    "type": "httpApiKey",
                    "name": "ticket",
                    "in": "query",
                    "description": "A ticket of `POST /v1/tickets`",
                },
            },
        },
    }
    return described


_QUERY = {
    "type": "object",
    "properties": {"ticket": {"type": "string", "description": "A single-use ticket"}},
    "additionalProperties": False,
}


def _operation(action: str, summary: str, frames: list[Any], *, keys_required: bool) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "action": action,
        "summary": summary,
        "channel": {"$ref": f"#/channels/{_CHANNEL}"},
        "messages": [{"$ref": f"#/channels/{_CHANNEL}/messages/{frame.__name__}"} for frame in frames],
    }
    if keys_required:
        schemes = ("bearer", "ticket")
        operation["security"] = [{"$ref": f"#/components/securitySchemes/{scheme}"} for scheme in schemes]
    return operation


def _message(frame: Any, schemas: dict[str, Schema]) -> dict[str, Any]:
    tag = frame.__struct_config__.tag
    description = inspect.cleandoc(frame.__doc__)
    schemas[frame.__name__]["description"] = description
    return {"name": tag, "title": tag, "summary": description, "payload": {"$ref": REF.format(name=frame.__name__)}}


def _schemas(frames: list[Any]) -> dict[str, Schema]:
    # A job holds its errors and its progress as text, and a frame a job as it came: their types do not name these.
    _, made = msgspec.json.schema_components([*frames, Submit, JobError, Progress], ref_template=REF)
    types: dict[str, Any] = {public_name(name): refined_type(name, schema) for name, schema in made.items()}
    submit = {"$ref": REF.format(name=public_name(Submit.__name__))}
    keyed = {"allOf": [submit], "description": "As in `POST /v1/jobs`; it may have an `idempotency_key`, too"}
    properties = types[SubmitFrame.__name__]["properties"]
    properties["job"] = keyed
    properties["jobs"] = {"type": "array", "items": keyed, "minItems": 1}
    return dict(sorted({**types, **notes.SCHEMAS}.items()))
