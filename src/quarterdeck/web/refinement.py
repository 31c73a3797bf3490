"""Schemas as msgspec makes them of types, refined by the notes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import msgspec

from quarterdeck.domain.submission import Duration
from quarterdeck.web import notes
from quarterdeck.web.notes import Note

Schema = dict[str, Any]

REF = "#/components/schemas/{name}"

_REFS = {REF.format(name=name): REF.format(name=note.name) for name, note in notes.TYPES.items() if note.name}
_DURATION = msgspec.json.schema(Duration)["anyOf"]
_NULL = {"type": "null"}


def public_name(name: str) -> str:
    """The name under which a type is described."""
    note = notes.TYPES.get(name)
    return note.name if note and note.name else name


def refined(schema: Any) -> Any:
    """The schema with the names of the outside, and with durations as such."""
    if isinstance(schema, list):
        return [refined(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    branches = schema.get("anyOf", [])
    if all(each in branches for each in _DURATION):
        others = [refined(each) for each in branches if each not in _DURATION]
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        duration = {"$ref": REF.format(name="Duration")}
        return {**rest, "anyOf": [duration, *others]} if others else {**rest, **duration}
    made = {key: value if key in ("default", "enum") else refined(value) for key, value in schema.items()}
    if "$ref" in made:
        made["$ref"] = _REFS.get(made["$ref"], made["$ref"])
    if isinstance(made.get("description"), str):
        made["description"] = inspect.cleandoc(made["description"])
    return made


def refined_type(name: str, schema: Schema) -> Schema:
    """The schema of the type `name`, with what the notes say of it and of its fields.

    A field of an input that may be anything, and of which there is no note, is one that is refused: it is left out.
    """
    is_input = schema.get("additionalProperties") is False
    made: Schema = {**refined(schema), "title": public_name(name)}
    if note := notes.TYPES.get(name):
        made["description"] = note.meaning
        if note.example is not None:
            made["examples"] = [note.example]
    if "enum" in made and all(isinstance(each, str) for each in made["enum"]):
        made = {"type": "string", **made}
    if "properties" in made:
        made["properties"] = {
            field: noted(inner, notes.FIELDS.get(f"{name}.{field}") or notes.FIELDS.get(field))
            for field, inner in made["properties"].items()
            if inner or not is_input or f"{name}.{field}" in notes.FIELDS
        }
    return made


def noted(schema: Schema, note: Note | None) -> Schema:
    """The schema with a note; what the type itself says goes before it, a schema that is to stand instead aside."""
    if note is None:
        return schema
    if note.instead is not None:
        return {"description": note.meaning, **note.instead}
    made = {"description": note.meaning, **schema}
    if "anyOf" in made:
        made["anyOf"] = [each if each == _NULL or "$ref" in each else _limited(each, note) for each in made["anyOf"]]
        return made
    return made if "$ref" in made else _limited(made, note)


def _limited(schema: Schema, note: Note) -> Schema:
    """The schema with the note's keywords, as far as they fit its type."""
    kind = schema.get("type")
    fitting = {key: value for key, value in note.keywords.items() if kind in _KINDS[key]}
    return {**fitting, **schema}


_KINDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("minimum", "maximum"), ("integer", "number")),
    **dict.fromkeys(("minLength", "maxLength", "pattern", "format"), ("string",)),
    **dict.fromkeys(("minItems", "maxItems"), ("array",)),
}
