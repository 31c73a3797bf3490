"""Endpoints: handlers with what they take and answer, read from their own signatures, and their way into Quart."""

from __future__ import annotations

import inspect
import re
import typing
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, TypeVar, cast
from urllib.parse import parse_qsl

import msgspec
import quart
from msgspec.inspect import ListType, type_info

from quarterdeck.domain.jsonvalue import locate
from quarterdeck.telemetry.requests import record_of
from quarterdeck.web import strictjson
from quarterdeck.web.auth import PRINCIPAL, Principal
from quarterdeck.web.body import LIMIT, Request
from quarterdeck.web.problems import BAD_QUERY, INVALID, NOT_FOUND, Family, Refusal, refusal_of
from quarterdeck.web.service import Service

JSON = "application/json"

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Handler = Callable[..., Awaitable[quart.Response]]
T = TypeVar("T")

_PARAMETER = re.compile(r"\{(\w+)\}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_MAX_FIELDS = 100
_encode = msgspec.json.Encoder().encode


class Call(msgspec.Struct, frozen=True):
    """One call of an endpoint: the service, who asks, and the request."""

    service: Service
    principal: Principal
    request: Request


class Media(msgspec.Struct, frozen=True):
    """An answer that is not JSON: its media type, without parameters."""

    type: str


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A method and a path, and everything there is to say about them; the interface's description is made from it.

    `path` has its parameters in braces and `parameters` their types, in order. `responses` has by status the type of
    the answer, a Media where it is not JSON, a tuple where there are several, and None where there is no content. A
    `body` that is not `body_required` may be missing altogether.
    """

    method: Method
    path: str
    summary: str
    handler: Handler
    responses: Mapping[int, Any]
    problems: tuple[Family, ...]
    parameters: tuple[Any, ...]
    body: Any = None
    query: type[msgspec.Struct] | None = None
    body_limit: int = LIMIT
    body_required: bool = True

    @property
    def name(self) -> str:
        """The name of the handler."""
        return cast("str", getattr(self.handler, "__name__"))  # noqa: B009 - a Callable need not have one, a function does

    async def answer(self, service: Service, request: Request, values: Sequence[str]) -> quart.Response:
        """Answers a request, by a problem where it comes to that."""
        try:
            arguments = [_parameter(kind, value) for kind, value in zip(self.parameters, values, strict=True)]
            given = {}
            query = _query(self.query, request.query_string)
            if query is not None:
                given["query"] = query
            if self.body is not None:
                text = await request.take_json_text(self.body_limit, required=self.body_required)
                if text or self.body_required:
                    given["body"] = _typed(strictjson.decode(text), self.body)
            principal = cast("Mapping[str, Principal]", request.scope)[PRINCIPAL]
            return await self.handler(Call(service, principal, request), *arguments, **given)
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer is a problem
            return problem_response(refusal_of(error))


def endpoint(
    method: Method,
    path: str,
    *,
    summary: str,
    responses: Mapping[int, Any],
    problems: Sequence[Family] = (),
    body_limit: int = LIMIT,
) -> Callable[[Handler], Endpoint]:
    """Makes an endpoint of a handler.

    The handler takes a Call, then the parameters of the path in their order, then `body` and `query` where it has them;
    their annotations say how they are decoded. What is not in the annotation of `query` is refused, and any query where
    there is none. A `body` with a default need not be sent.
    """

    def make(handler: Handler) -> Endpoint:
        hints = typing.get_type_hints(handler)
        signature = inspect.signature(handler).parameters
        taken = list(signature)[1:]
        parameters = tuple(hints[name] for name in taken if name not in ("body", "query"))
        if len(parameters) != len(_PARAMETER.findall(path)):
            raise TypeError(f"{path} and the signature of its handler have different parameters")
        return Endpoint(
            method=method,
            path=path,
            summary=summary,
            handler=handler,
            responses=responses,
            problems=tuple(problems),
            parameters=parameters,
            body=hints.get("body"),
            query=hints.get("query"),
            body_limit=body_limit,
            body_required="body" not in signature or signature["body"].default is inspect.Parameter.empty,
        )

    return make


def mount(app: quart.Quart | quart.Blueprint, endpoints: Iterable[Endpoint], service: Service) -> None:
    """Adds the routes of the endpoints, and an answer to OPTIONS for each of their paths."""
    methods: dict[str, set[str]] = {}
    for each in endpoints:
        app.add_url_rule(
            _rule(each.path),
            each.name,
            _view(each, service),
            methods=[each.method],
            provide_automatic_options=False,
        )
        methods.setdefault(each.path, {"OPTIONS"}).update([each.method, *(["HEAD"] if each.method == "GET" else [])])
    for path, allowed in methods.items():
        app.add_url_rule(
            _rule(path),
            f"options {path.replace('.', ' ')}",
            _options(path, ", ".join(sorted(allowed))),
            methods=["OPTIONS"],
            provide_automatic_options=False,
        )


def json_response(status: int, content: Any, headers: Mapping[str, str] | None = None) -> quart.Response:
    """An answer in JSON."""
    return quart.Response(_encode(content), status, dict(headers or {}), content_type=JSON)


def problem_response(refusal: Refusal) -> quart.Response:
    """An answer that is a problem."""
    return quart.Response(refusal.body(), refusal.status, refusal.headers)


def _view(each: Endpoint, service: Service) -> Callable[..., Awaitable[quart.Response]]:
    async def view(**values: str) -> quart.Response:
        _note_route(each.path)
        return await each.answer(service, cast("Request", quart.request), list(values.values()))

    return view


def _note_route(path: str) -> None:
    record = record_of(quart.request.scope)
    if record is not None:
        record.route = path


def _options(path: str, allowed: str) -> Callable[..., Awaitable[quart.Response]]:
    async def view(**_values: str) -> quart.Response:
        _note_route(path)
        response = quart.Response(b"", 204, {"Allow": allowed})
        del response.headers["Content-Type"]
        return response

    return view


def _rule(path: str) -> str:
    return _PARAMETER.sub(r"<\1>", path)


def _parameter(kind: Any, value: str) -> Any:
    if kind is uuid.UUID:
        if not _UUID.fullmatch(value):
            raise Refusal(NOT_FOUND, "There is no such id: it is not a UUID")
        return uuid.UUID(value)
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Refusal(NOT_FOUND, f"There is nothing of that name: {locate(error).detail}") from None


def _typed(document: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise Refusal(INVALID, "The body does not fit", errors=[locate(error)]) from None


def _query(kind: type[msgspec.Struct] | None, text: bytes) -> msgspec.Struct | None:
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise Refusal(BAD_QUERY, "The query string is not UTF-8 in percent-encoding, or has too many parts") from None
    fields = _fields(kind) if kind else {}
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name not in fields:
            known = f"; there are: {', '.join(fields)}" if fields else ""
            raise _bad_query(name, f"there is no such parameter here{known}")
        if isinstance(type_info(fields[name].type), ListType):
            values.setdefault(name, []).append(value)
        elif name in values:
            raise _bad_query(name, "given twice")
        else:
            values[name] = value
    if kind is None:
        return None
    try:
        query = msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        misfit = locate(error)
        raise _bad_query(misfit.pointer[1:], misfit.detail) from None
    # The lax reading takes the word "null" for null; but what is given has a value, and what has none is not given.
    for name in values:
        if getattr(query, fields[name].name) is None:
            raise _bad_query(name, "null is no value here")
    return query


@cache  # reading a type takes longer than everything else here
def _fields(kind: type[msgspec.Struct]) -> Mapping[str, msgspec.structs.FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


def _bad_query(name: str, detail: str) -> Refusal:
    return Refusal(BAD_QUERY, f"Parameter {name!r:.80}: {detail}")
