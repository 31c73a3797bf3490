"""The interface's description (OpenAPI 3.1), made from the endpoints and the types that they decode and encode."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from quarterdeck.domain.job import JobError, Progress
from quarterdeck.version import __version__
from quarterdeck.web import headers, notes, problems
from quarterdeck.web.auth import OPEN_PATHS
from quarterdeck.web.endpoint import JSON, Endpoint, Media
from quarterdeck.web.headers import Header
from quarterdeck.web.problem_advice import ADVICE
from quarterdeck.web.problems import Family, Problem
from quarterdeck.web.refinement import REF, Schema, noted, public_name, refined, refined_type
from quarterdeck.web.schemas import JobBody

_PARAMETER = re.compile(r"\{(\w+)\}")
_RAW = (JobError, Progress)  # what a job holds as text, so that its own type does not name them
_JOB_PATH = "/v1/jobs/{id}"
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_ABOUT = (
    "Background jobs. Bodies are strict JSON in UTF-8. Times are RFC 3339 in UTC with milliseconds; durations are "
    "seconds or text such as `10s`. Unknown fields and unknown query parameters are refused. Whatever goes wrong is "
    f"answered as `{problems.CONTENT_TYPE}` (RFC 9457), and its `type` leads to a page about it. What answers "
    "GET answers HEAD, and every path answers OPTIONS."
)


def document(endpoints: Sequence[Endpoint], *, base: str = "/", keys_required: bool = False) -> dict[str, Any]:
    """The description of `endpoints`, served below the path `base`."""
    types = _Types(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    links = _job_links(endpoints)
    for each in endpoints:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, types, links)
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Quarterdeck",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": base}],
        "tags": [{"name": tag} for tag in dict.fromkeys(_tag(each) for each in endpoints)],
        "paths": paths,
        "components": {
            "schemas": types.components,
            "examples": {family.slug: _example(family) for family in problems.CATALOGUE},
            "links": links,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, where the service needs one"}
            },
        },
    }
    if keys_required:
        described["security"] = [{"bearer": []}]
        for path in OPEN_PATHS & paths.keys():
            for operation in paths[path].values():
                operation["security"] = []
    return described


def common_problems(each: Endpoint) -> list[Family]:
    """The problems that a route may answer beside its own."""
    common = [problems.BAD_REQUEST, problems.BAD_QUERY, problems.MISDIRECTED, problems.INTERNAL]
    if each.path not in OPEN_PATHS:
        common.append(problems.UNAUTHENTICATED)
    if each.method not in _READING:
        common.append(problems.FORBIDDEN)
    if each.path.startswith("/v1/"):
        common += [problems.UNAVAILABLE, problems.DRAINING]
    return common


class _Types:
    """The schemas of all types that are decoded or encoded, made together and refined by the notes."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._kinds: list[Any] = [Problem, *_RAW]
        for each in endpoints:
            for kind in _kinds_of(each):
                if not any(kind is known or kind == known for known in self._kinds):
                    self._kinds.append(kind)
        schemas, made = msgspec.json.schema_components(self._kinds, ref_template=REF)
        types = {name: refined_type(name, schema) for name, schema in made.items()}
        self._schemas = [refined(schema) for schema in schemas]
        queries = {each.query.__name__ for each in endpoints if each.query}
        self._queries = {name: types.pop(name) for name in queries}
        named = {public_name(name): schema for name, schema in types.items()}
        self.components = dict(sorted({**named, **notes.SCHEMAS}.items()))

    def schema(self, kind: Any) -> Schema:
        """The schema of one of the types."""
        at = next(index for index, known in enumerate(self._kinds) if known is kind or known == kind)
        schema: Schema = self._schemas[at]
        return schema

    def query(self, kind: type[msgspec.Struct]) -> tuple[Mapping[str, Schema], Sequence[str]]:
        """The schemas of the parameters of a query, and which of them must be given."""
        made = self._queries[kind.__name__]
        return made["properties"], made.get("required", ())


def _kinds_of(each: Endpoint) -> list[Any]:
    kinds = [*each.parameters, *(kind for kind in (each.body, each.query) if kind is not None)]
    for answer in each.responses.values():
        kinds += [kind for kind in _alternatives(answer) if not isinstance(kind, Media)]
    return kinds


def _alternatives(answer: Any) -> tuple[Any, ...]:
    if isinstance(answer, tuple):
        return answer
    return () if answer is None else (answer,)


def _operation(each: Endpoint, types: _Types, links: Mapping[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": each.name,
        "summary": each.summary,
        "tags": [_tag(each)],
        "parameters": _parameters(each, types),
        "responses": _responses(each, types, links),
    }
    if each.handler.__doc__:
        operation["description"] = inspect.cleandoc(each.handler.__doc__)
    if each.body is not None:
        content: dict[str, Any] = {"schema": types.schema(each.body)}
        if examples := notes.BODIES.get(_route(each)):
            content["examples"] = {name: {"value": value} for name, value in examples.items()}
        operation["requestBody"] = {
            "description": f"At most {each.body_limit} bytes",
            "required": each.body_required,
            "content": {JSON: content},
        }
    return operation


def _route(each: Endpoint) -> str:
    return f"{each.method} {each.path}"


def _tag(each: Endpoint) -> str:
    parts = each.path.split("/")
    return parts[2] if parts[1] == "v1" else "service"


def _parameters(each: Endpoint, types: _Types) -> list[dict[str, Any]]:
    made = [
        _parameter("path", name, noted(types.schema(kind), _path_note(each, name)), required=True)
        for name, kind in zip(_PARAMETER.findall(each.path), each.parameters, strict=True)
    ]
    if each.query is not None:
        properties, required = types.query(each.query)
        made += [_parameter("query", name, schema, required=name in required) for name, schema in properties.items()]
    for header in headers.REQUEST.get(_route(each), ()):
        made.append({"name": header.name, "in": "header", **_described(header)})
    return made


def _path_note(each: Endpoint, name: str) -> notes.Note | None:
    return notes.PARAMETERS.get(f"{each.path} {name}") or notes.PARAMETERS.get(name)


def _parameter(place: str, name: str, schema: Schema, *, required: bool) -> dict[str, Any]:
    inner = {key: value for key, value in schema.items() if key != "description"}
    described = {"description": schema["description"]} if "description" in schema else {}
    made = {"name": name, "in": place, "required": required, **described, "schema": _not_null(inner)}
    if place == "query" and inner.get("type") == "array":
        made |= {"style": "form", "explode": True}
    return made


def _not_null(schema: Schema) -> Schema:
    """The schema of a parameter, which is not given rather than null."""
    branches = [branch for branch in schema.get("anyOf", ()) if branch != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key != "anyOf" and (key, value) != ("default", None)}
    if not branches:
        return rest
    return {**rest, **branches[0]} if len(branches) == 1 else {**rest, "anyOf": branches}


def _described(header: Header) -> dict[str, Any]:
    example = {} if header.example is None else {"example": header.example}
    return {"description": header.meaning, "schema": dict(header.schema), **example}


def _header_map(found: Iterable[Header]) -> dict[str, Any]:
    return {header.name: _described(header) for header in (*found, headers.REQUEST_ID)}


def _responses(each: Endpoint, types: _Types, links: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    answered = headers.RESPONSE.get(_route(each), {})
    for status, answer in each.responses.items():
        made[str(status)] = response = {
            "description": HTTPStatus(status).phrase,
            "headers": _header_map(answered.get(status, ())),
        }
        alternatives = _alternatives(answer)
        content = {
            kind.type if isinstance(kind, Media) else JSON: {}
            if isinstance(kind, Media)
            else {"schema": types.schema(kind)}
            for kind in alternatives
        }
        if content:
            response["content"] = content
        if JobBody in alternatives:
            response["links"] = {name: {"$ref": f"#/components/links/{name}"} for name in links}
    for status, families in _by_status(each).items():
        response = made.setdefault(str(status), {"description": "; ".join(family.title for family in families)})
        response["headers"] = {**_header_map(headers.PROBLEM.get(status, ())), **response.get("headers", {})}
        response.setdefault("content", {})[problems.CONTENT_TYPE] = _problem(families)
    return dict(sorted(made.items()))


def _by_status(each: Endpoint) -> dict[int, list[Family]]:
    found: dict[int, list[Family]] = {}
    for family in dict.fromkeys((*each.problems, *common_problems(each))):
        found.setdefault(family.status, []).append(family)
    return found


def _problem(families: Sequence[Family]) -> dict[str, Any]:
    narrowed = {
        "type": {"enum": [f"/problems/{family.slug}" for family in families]},
        "status": {"const": families[0].status},
    }
    return {
        "schema": {"allOf": [{"$ref": REF.format(name="Problem")}, {"properties": narrowed}]},
        "examples": {family.slug: {"$ref": f"#/components/examples/{family.slug}"} for family in families},
    }


def _example(family: Family) -> dict[str, Any]:
    value = Problem(
        type=f"/problems/{family.slug}",
        title=family.title,
        status=family.status,
        detail=ADVICE[family.slug].example if family.slug in ADVICE else family.title,
        errors=list(ADVICE[family.slug].errors) if family.slug in ADVICE else [],
    )
    return {"summary": family.title, "value": msgspec.to_builtins(value)}


def _job_links(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """What can be done with a job that was answered."""
    return {
        each.name: {"operationId": each.name, "parameters": {"id": "$response.body#/id"}}
        for each in endpoints
        if each.path == _JOB_PATH or each.path.startswith(f"{_JOB_PATH}/")
    }
