"""What the reference page shows of the interface's description: routes and types, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from quarterdeck.web.problems import CONTENT_TYPE

_METHODS = ("get", "post", "put", "patch", "delete")
_REF = "#/components/schemas/"
_SHOWN_CHOICES = 12


class Field(msgspec.Struct, frozen=True):
    """A field, a parameter or a header: where it stands, its type in words, and the types that it refers to."""

    name: str
    place: str
    required: bool
    type: str
    refers_to: tuple[str, ...]
    limits: str
    meaning: str


class Answer(msgspec.Struct, frozen=True):
    """An answer: its status, what it is in words, its media types, types, headers, and the problems that it may be."""

    status: str
    description: str
    media_types: tuple[str, ...]
    refers_to: tuple[str, ...]
    headers: tuple[str, ...]
    problems: tuple[str, ...]


class Operation(msgspec.Struct, frozen=True):
    """A route, as the page shows it."""

    name: str
    tag: str
    method: str
    path: str
    summary: str
    description: str
    parameters: tuple[Field, ...]
    body: tuple[str, ...]
    body_note: str
    examples: Mapping[str, str]
    answers: tuple[Answer, ...]


class Type(msgspec.Struct, frozen=True):
    """A type, as the page shows it."""

    name: str
    description: str
    words: str
    fields: tuple[Field, ...]
    examples: tuple[str, ...]


def operations_of(document: Mapping[str, Any]) -> list[Operation]:
    """The routes of a description."""
    return [
        _operation(method, path, item[method])
        for path, item in document["paths"].items()
        for method in _METHODS
        if method in item
    ]


def types_of(document: Mapping[str, Any]) -> list[Type]:
    """The types of a description."""
    return [_type(name, schema) for name, schema in document["components"]["schemas"].items()]


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Operation:
    body = operation.get("requestBody", {})
    content: Mapping[str, Any] = next(iter(body.get("content", {}).values()), {})
    return Operation(
        name=operation["operationId"],
        tag=operation["tags"][0],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        description=operation.get("description", ""),
        parameters=tuple(
            _field(each["name"], each["schema"], each["in"], each.get("description", ""), each.get("required", False))
            for each in operation["parameters"]
        ),
        body=_references(content.get("schema", {})),
        body_note=body.get("description", ""),
        examples={name: _json(each["value"]) for name, each in content.get("examples", {}).items()},
        answers=tuple(_answer(status, each) for status, each in operation["responses"].items()),
    )


def _answer(status: str, response: Mapping[str, Any]) -> Answer:
    content = response.get("content", {})
    return Answer(
        status=status,
        description=response["description"],
        media_types=tuple(content),
        refers_to=tuple(
            name for kind in content.values() for name in _references(kind.get("schema", {})) if name != "Problem"
        ),
        headers=tuple(response.get("headers", {})),
        problems=tuple(content.get(CONTENT_TYPE, {}).get("examples", {})),
    )


def _type(name: str, schema: Mapping[str, Any]) -> Type:
    required = schema.get("required", ())
    return Type(
        name=name,
        description=schema.get("description", ""),
        words="" if "properties" in schema else f"{words(schema)} {limits(schema)}".strip(),
        fields=tuple(
            _field(field, inner, "", inner.get("description", ""), field in required)
            for field, inner in schema.get("properties", {}).items()
        ),
        examples=tuple(_json(example) for example in schema.get("examples", ())),
    )


def _field(name: str, schema: Mapping[str, Any], place: str, meaning: str, required: bool) -> Field:  # noqa: FBT001
    return Field(name, place, required, words(schema), _references(schema), limits(schema), meaning)


def words(schema: Mapping[str, Any]) -> str:  # noqa: PLR0911 - a table
    """The type that a schema describes."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(_REF)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(words(each) for each in schema["anyOf"]))
    if "const" in schema:
        return _json(schema["const"])
    if "enum" in schema:
        return " | ".join(str(each) for each in schema["enum"][:_SHOWN_CHOICES])
    if schema.get("type") == "array":
        return f"array of {words(schema.get('items', {}))}"
    if schema.get("format") in ("uuid", "date-time"):
        return {"uuid": "UUID", "date-time": "time"}[schema["format"]]
    return str(schema.get("type", "any JSON"))


def limits(schema: Mapping[str, Any]) -> str:
    """The limits that a schema sets, those of its alternatives included."""
    found = list(_limits(schema))
    for each in schema.get("anyOf", ()):
        found += _limits(each)
    return ", ".join(dict.fromkeys(found))


def _limits(schema: Mapping[str, Any]) -> Iterator[str]:
    for least, greatest, what in (
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
    ):
        low, high = schema.get(least), schema.get(greatest)
        if low is not None and high is not None:
            yield f"{low:g} to {high:g}{what}"
        elif low is not None:
            yield f"at least {low:g}{what}"
        elif high is not None:
            yield f"at most {high:g}{what}"
    if "pattern" in schema:
        yield f"matches {schema['pattern']}"
    if schema.get("default") is not None:
        yield f"default {_json(schema['default'])}"


def _references(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """The types that a schema names, in order."""
    found: dict[str, None] = {}
    waiting: list[Any] = [schema]
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, dict):
            if isinstance(each.get("$ref"), str):
                found[each["$ref"].removeprefix(_REF)] = None
            waiting += [value for key, value in each.items() if key not in ("default", "examples", "example")]
        elif isinstance(each, list):
            waiting += each
    return tuple(found)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)
