import dataclasses
import datetime as dt
import enum
import functools
import json
import uuid
from typing import Annotated, Any, Literal

import msgspec
import pytest

from quarterdeck.domain.errors import ArgsError
from quarterdeck.domain.handler import Handler, JobContext
from quarterdeck.domain.submission import KindDefaults

# Every keyword of JSON Schema 2020-12 that the schema of arguments may hold.
KEYWORDS = {
    *("$ref", "$defs", "title", "description", "type", "properties", "required", "additionalProperties", "default"),
    *("items", "prefixItems", "minItems", "maxItems", "enum", "const", "anyOf", "format", "contentEncoding"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern"),
}
TYPES = {"object", "array", "string", "integer", "number", "boolean", "null"}


class Size(msgspec.Struct, forbid_unknown_fields=True):
    width: int
    height: int = 1


class Fixed(msgspec.Struct, frozen=True):
    width: int = 3


@dataclasses.dataclass
class Place:
    name: str
    at: dt.datetime | None = None


class Colour(enum.Enum):
    RED = "red"


class Tree(msgspec.Struct):
    children: "list[Tree]" = []


class Unknown:
    pass


def handler(function: Any) -> Handler:
    return Handler("k", function, KindDefaults())


def bind(function: Any, args: dict[str, object]) -> dict[str, object]:
    return handler(function).bind(args)


def misfit(function: Any, args: dict[str, object]) -> tuple[str, str]:
    with pytest.raises(ArgsError) as refused:
        bind(function, args)
    return refused.value.error.pointer, refused.value.error.detail


def assert_is_json_schema(schema: Any, definitions: dict[str, Any]) -> None:
    """Check what matters of the meta-schema: known keywords with legal values, and references that lead somewhere."""
    assert set(schema) <= KEYWORDS, set(schema) - KEYWORDS
    if "$ref" in schema:
        assert schema["$ref"].removeprefix("#/$defs/") in definitions
    types = schema.get("type", [])
    assert {types} <= TYPES if isinstance(types, str) else set(types) <= TYPES
    assert set(schema.get("required", [])) <= set(schema.get("properties", {}))
    for inner in schema.get("properties", {}).values():
        assert_is_json_schema(inner, definitions)
    for inner in schema.get("anyOf", []):
        assert_is_json_schema(inner, definitions)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            assert_is_json_schema(schema[name], definitions)


# --- the signature


@pytest.mark.parametrize("function", [lambda: None, print, Unknown, 5], ids=["lambda", "builtin", "class", "number"])
def test_what_is_no_async_function_is_refused(function):
    with pytest.raises(TypeError, match="the handler of 'k' is not an async function"):
        handler(function)


def test_a_handler_gets_its_context_where_it_is_called_ctx():
    async def plain(ctx, a): ...

    async def annotated(a: int, *, ctx: JobContext) -> None: ...

    async def without(a): ...

    assert [handler(each).wants_context for each in (plain, annotated, without)] == [True, True, False]
    assert all(handler(each).args_type.__struct_fields__ == ("a",) for each in (plain, annotated, without))


def test_a_context_of_another_name_is_refused():
    async def other(context: JobContext, a: int): ...

    with pytest.raises(TypeError, match="must be called ctx, not context"):
        handler(other)


async def positional_only(a, /): ...
async def several(*args): ...
async def positional_only_context(ctx, /, a): ...
async def several_contexts(*ctx): ...
async def named_contexts(**ctx): ...
async def mangled(__a: int): ...  # noqa: PYI063 - not the old way to say "positional-only"


@pytest.mark.parametrize(
    "function",
    [positional_only, several, positional_only_context, several_contexts, named_contexts, mangled],
    ids=lambda function: function.__name__,
)
def test_a_parameter_that_cannot_be_given_by_name_is_refused(function):
    with pytest.raises(TypeError, match="of the handler of 'k'"):
        handler(function)


def test_a_method_is_a_handler_without_its_self():
    class Application:
        async def run(self, a: int): ...

    assert handler(Application().run).args_type.__struct_fields__ == ("a",)


def test_the_signature_is_read_through_a_decorator():
    def logged(function):
        @functools.wraps(function)
        async def wrapper(*args, **kwargs):
            return await function(*args, **kwargs)

        return wrapper

    @logged
    async def decorated(ctx, a: int): ...

    read = handler(decorated)
    assert (read.wants_context, read.extra, read.args_type.__struct_fields__) == (True, False, ("a",))


@pytest.mark.parametrize(
    "annotation", [complex, Unknown, JobContext | None, dict[int, Unknown], list[Unknown]], ids=str
)
def test_a_type_that_json_cannot_fill_is_refused(annotation):
    async def function(a): ...

    function.__annotations__["a"] = annotation
    with pytest.raises(TypeError, match="the arguments of the handler of 'k' cannot come from JSON"):
        handler(function)


def test_an_annotation_that_cannot_be_resolved_is_refused_as_a_type_error():
    async def function(a: "Nowhere"): ...  # noqa: F821 - that is the point

    with pytest.raises(TypeError, match=r"the handler of 'k'.*Nowhere"):
        handler(function)


@pytest.mark.parametrize("default", [object(), Size(1), 1j], ids=lambda default: type(default).__name__)
def test_a_default_that_is_no_json_or_could_be_changed_by_a_call_is_refused(default):
    async def function(a=default): ...

    with pytest.raises(TypeError, match="of the handler of 'k'"):
        handler(function)


# --- the arguments of a call


def test_arguments_are_converted_to_their_types():
    async def function(
        *,
        size: Size,
        place: Place,
        at: dt.datetime,
        day: dt.date,
        key: uuid.UUID,
        colour: Colour,
        mode: Literal["fast", "slow"],
        sizes: dict[str, list[Size]],
        ratio: float,
        anything,
        pair: tuple[int, str],
        blob: bytes,
        short: Annotated[str, msgspec.Meta(max_length=3)],
    ): ...

    bound = bind(
        function,
        {
            "size": {"width": 2},
            "place": {"name": "here", "at": "2026-01-31T12:00:00Z"},
            "at": "2026-01-31T12:00:00+01:00",
            "day": "2026-01-31",
            "key": "00000000-0000-0000-0000-000000000007",
            "colour": "red",
            "mode": "fast",
            "sizes": {"a": [{"width": 1, "height": 5}]},
            "ratio": 1,
            "anything": {"as": ["it", "is"]},
            "pair": [1, "b"],
            "blob": "AAE=",
            "short": "abc",
        },
    )
    assert bound == {
        "size": Size(2, 1),
        "place": Place("here", dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)),
        "at": dt.datetime(2026, 1, 31, 11, tzinfo=dt.UTC),
        "day": dt.date(2026, 1, 31),
        "key": uuid.UUID(int=7),
        "colour": Colour.RED,
        "mode": "fast",
        "sizes": {"a": [Size(1, 5)]},
        "ratio": 1.0,
        "anything": {"as": ["it", "is"]},
        "pair": (1, "b"),
        "blob": b"\0\1",
        "short": "abc",
    }


@pytest.mark.parametrize("number", [1e22, 1e300, 2.0**64, 5e-324, -1.5])
def test_a_large_number_that_jsonb_gives_back_as_an_integer_still_is_a_float(number):
    async def function(a: float): ...

    whole = int(number) if abs(number) > 1e10 else number
    assert bind(function, {"a": whole}) == {"a": number}


async def strict(size: Size, sizes: list[Size] = [], names: dict[str, int] = {}, at: dt.datetime | None = None): ...  # noqa: B006 - as users write it


@pytest.mark.parametrize(
    ("args", "place", "detail"),
    [
        ({}, "/args/size", "required, and not given"),
        ({"size": None}, "/args/size", "expected object, got null"),
        ({"size": {"width": "x"}}, "/args/size/width", "expected int, got str"),
        ({"size": {"width": 1.0}}, "/args/size/width", "expected int, got float"),
        ({"size": {"width": True}}, "/args/size/width", "expected int, got bool"),
        ({"size": {"width": 1, "depth": 2}}, "/args/size/depth", "unknown field"),
        ({"size": {"width": 1}, "sizes": [{"width": 1}, {}]}, "/args/sizes/1/width", "required, and not given"),
        ({"size": {"width": 1}, "names": {"a": "x"}}, "/args/names", "expected int, got str"),
        ({"size": {"width": 1}, "at": "today"}, "/args/at", "invalid RFC3339 encoded datetime"),
        ({"size": {"width": 1}, "sise": 2}, "/args/sise", "unknown field"),
        ({"size": {"width": 1}, "a/b": 2}, "/args/a~1b", "unknown field"),
        ({"size": {"width": 1}, "ctx": {}}, "/args/ctx", "unknown field"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_their_place(args, place, detail):
    assert misfit(strict, args) == (place, detail)


def test_arguments_that_are_nested_without_end_are_refused():
    async def function(tree: Tree): ...

    tree: dict[str, Any] = {}
    tree["children"] = [tree]
    assert misfit(function, {"tree": tree}) == ("/args", "nested too deeply")


def test_what_is_not_given_takes_its_default():
    async def function(a: int, b: int = 2, *, c: str | None = None, d: int, e: Fixed = Fixed()): ...  # noqa: B008 - frozen

    assert bind(function, {"a": 1, "d": 4}) == {"a": 1, "b": 2, "c": None, "d": 4, "e": Fixed(3)}


@pytest.mark.parametrize("default", [[1], {"a": 1}, {1}, [[1]], {"a": {"b": [1]}}], ids=str)
def test_a_mutable_default_is_fresh_for_every_call(default):
    async def function(a: Any = default): ...

    read = handler(function)
    before = repr(default)
    changed = read.bind({})["a"]
    if isinstance(changed, list):
        changed.append(2)
        if isinstance(changed[0], list):
            changed[0].append(2)
    elif isinstance(changed, dict):
        changed["c"] = 2
        if isinstance(changed["a"], dict):
            changed["a"]["b"].append(2)
    else:
        changed.add(2)
    assert repr(changed) != before
    assert repr(read.bind({})["a"]) == before


def test_two_mutable_defaults_are_not_mixed_up():
    async def function(a: list[int] = [1], b: list[int] = [2]): ...  # noqa: B006 - as users write it

    assert bind(function, {}) == {"a": [1], "b": [2]}


def test_further_arguments_are_passed_on_where_the_handler_takes_them():
    async def function(ctx, a: int, b: int = 2, **rest): ...

    read = handler(function)
    assert (read.wants_context, read.extra) == (True, True)
    assert read.bind({"a": 1, "c": [3], "d/e": None}) == {"a": 1, "b": 2, "c": [3], "d/e": None}
    assert misfit(function, {"a": "x", "c": 3}) == ("/args/a", "expected int, got str")


def test_a_handler_without_parameters_takes_no_arguments():
    async def function(): ...

    assert bind(function, {}) == {}
    assert misfit(function, {"a": 1}) == ("/args/a", "unknown field")


def test_names_that_begin_with_an_underscore_or_are_called_self_are_names_too():
    async def function(self: int, _a: int = 1): ...

    assert bind(function, {"self": 5}) == {"self": 5, "_a": 1}


# --- the schema


def test_the_schema_says_what_the_signature_says():
    async def function(ctx, size: Size, name: str, count: int = 1, tags: list[str] = []): ...  # noqa: B006 - as users write it

    assert handler(function).schema() == {
        "type": "object",
        "properties": {
            "size": {"$ref": "#/$defs/Size"},
            "name": {"type": "string"},
            "count": {"type": "integer", "default": 1},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["size", "name"],
        "additionalProperties": False,
        "$defs": {
            "Size": {
                "title": "Size",
                "type": "object",
                "properties": {"width": {"type": "integer"}, "height": {"type": "integer", "default": 1}},
                "required": ["width"],
                "additionalProperties": False,
            }
        },
    }


async def nothing(): ...
async def anything(**rest): ...
async def untyped(a, b=1): ...
async def nested(size: Size, place: Place, sizes: dict[str, list[Size | None]], at: dt.datetime, colour: Colour): ...


@pytest.mark.parametrize("function", [nothing, anything, untyped, nested, strict], ids=lambda each: each.__name__)
def test_the_schema_is_a_json_schema(function):
    schema = json.loads(json.dumps(handler(function).schema()))
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is (function is anything)
    definitions = schema.pop("$defs", {})
    for part in (schema, *definitions.values()):
        assert_is_json_schema(part, definitions)


@pytest.mark.parametrize("kind", ["quarterdeck.echo", "a:b-c", "9"])
def test_the_schema_does_not_depend_on_the_kinds_name(kind):
    schema = Handler(kind, nested, KindDefaults()).schema()
    assert schema == handler(nested).schema()


def test_a_type_that_contains_itself_has_a_schema():
    async def function(tree: Tree): ...

    schema = handler(function).schema()
    assert schema["$defs"]["Tree"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}
    assert bind(function, {"tree": {"children": [{}]}}) == {"tree": Tree([Tree()])}
