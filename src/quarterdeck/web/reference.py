"""The interface's own account of itself: `/openapi.json` and `/asyncapi.json` for programs, `/docs` for people."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import quart

from quarterdeck.version import __version__
from quarterdeck.web import asyncapi
from quarterdeck.web.endpoint import JSON, Call, Endpoint, Media, endpoint
from quarterdeck.web.openapi import document
from quarterdeck.web.operations import operations_of, types_of
from quarterdeck.web.pages import HTML, fixed, page, static
from quarterdeck.web.problem_pages import problem_pages

CSS = "text/css"


def with_reference(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """`endpoints`, and those that describe them all, themselves included.

    Each description is made when it is first asked for, and kept. Of the request only the path before the route goes
    into it, and that is the server's own.
    """

    @functools.lru_cache(maxsize=4)
    def openapi(base: str, keys_required: bool) -> bytes:  # noqa: FBT001 - the key of a cache
        return msgspec.json.encode(document(every, base=base, keys_required=keys_required))

    @functools.cache
    def live(keys_required: bool) -> bytes:  # noqa: FBT001 - the key of a cache
        return msgspec.json.encode(asyncapi.document(keys_required=keys_required))

    @functools.cache
    def docs() -> bytes:
        described = document(every)
        operations = operations_of(described)
        return page(
            "docs.html",
            root=".",
            version=__version__,
            about=described["info"]["description"],
            groups={tag: [each for each in operations if each.tag == tag] for tag in _tags(described)},
            types=types_of(described),
            problems=problem_pages().values(),
        )

    @functools.cache
    def style() -> bytes:
        return static("style.css")

    @endpoint(
        "GET", "/openapi.json", summary="This interface as OpenAPI 3.1", responses={200: dict[str, Any], 304: None}
    )
    async def get_openapi(call: Call) -> quart.Response:
        """The document that the routes are described by, made from the types that they decode and encode."""
        base = f"{call.request.root_path}{call.request.path}".removesuffix("/openapi.json") or "/"
        return fixed(call.request, openapi(base, call.service.settings.auth_required()), JSON)

    @endpoint(
        "GET",
        "/asyncapi.json",
        summary="The live channel as AsyncAPI 3.0",
        responses={200: dict[str, Any], 304: None},
    )
    async def get_asyncapi(call: Call) -> quart.Response:
        """The document that the frames of the WebSocket are described by, made from their types."""
        return fixed(call.request, live(call.service.settings.auth_required()), JSON)

    @endpoint("GET", "/docs", summary="The reference, as a page", responses={200: Media(HTML), 304: None})
    async def get_docs(call: Call) -> quart.Response:
        """Every route, parameter, field and problem on one page, without scripts and with nothing from elsewhere."""
        return fixed(call.request, docs(), f"{HTML}; charset=utf-8")

    @endpoint("GET", "/docs/style.css", summary="The style sheet of the pages", responses={200: Media(CSS), 304: None})
    async def get_style(call: Call) -> quart.Response:
        return fixed(call.request, style(), f"{CSS}; charset=utf-8")

    every = (*endpoints, get_openapi, get_asyncapi, get_docs, get_style)
    return every


def _tags(described: dict[str, Sequence[dict[str, str]]]) -> list[str]:
    return [tag["name"] for tag in described["tags"]]
