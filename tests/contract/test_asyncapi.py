"""The live channel's description: valid, whole, and true to the frames."""

import json
from pathlib import Path
from typing import get_args

import jsonschema
import pytest

from quarterdeck.web.asyncapi import document
from quarterdeck.web.frames import AnyClientFrame, AnyServerFrame
from tests.support.documents import references

SCHEMA = json.loads((Path(__file__).parents[1] / "data" / "asyncapi" / "3.0.0.json").read_text())
DOCUMENT = document(keys_required=True)


def validator(name):
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("keys_required", [True, False])
def test_the_description_is_valid(keys_required):
    found = jsonschema.Draft7Validator(SCHEMA).iter_errors(document(keys_required=keys_required))
    assert [f"{list(error.path)}: {error.message[:200]}" for error in found] == []


def test_the_schema_finds_faults():
    for broken in ({"asyncapi": "2.0.0"}, {"operations": {"send": {"action": "shout"}}}, {"channels": []}):
        assert list(jsonschema.Draft7Validator(SCHEMA).iter_errors({**DOCUMENT, **broken}))


def test_every_frame_is_described():
    frames = {frame.__name__ for frame in (*get_args(AnyClientFrame), *get_args(AnyServerFrame))}
    assert set(DOCUMENT["components"]["messages"]) == frames
    assert all(message["summary"] for message in DOCUMENT["components"]["messages"].values())


def test_every_reference_leads_somewhere():
    for reference in references(DOCUMENT):
        place = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


@pytest.mark.parametrize(
    ("name", "frame", "fits"),
    [
        ("SubscribeFrame", {"op": "subscribe", "sub": "a", "all": True}, True),
        ("SubscribeFrame", {"op": "subscribe", "sub": "a", "job": "x", "after": -1}, False),
        ("SubscribeFrame", {"op": "subscribe"}, False),
        ("SubmitFrame", {"op": "submit", "ref": "1", "job": {"kind": "add"}}, True),
        ("SubmitFrame", {"op": "submit", "ref": "1", "job": {"args": {}}}, False),
        ("PingFrame", {"op": "ping"}, True),
        ("PingFrame", {"op": "pong"}, False),
        ("HelloFrame", {"type": "hello", "heartbeat": 30}, True),
        ("GapFrame", {"type": "gap", "sub": "a"}, False),
    ],
)
def test_frames_fit_or_not(name, frame, fits):
    assert validator(name).is_valid(frame) is fits


async def test_it_is_served(client):
    answer = await client.get("/asyncapi.json")
    assert (answer.status, answer.json["asyncapi"]) == (200, "3.0.0")
