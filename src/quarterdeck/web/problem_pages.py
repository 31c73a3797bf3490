"""Where the `type` of a problem leads: a page about it, or the same as JSON."""

from __future__ import annotations

import functools
from typing import Any

import msgspec
import quart

from quarterdeck.web.endpoint import JSON, Call, Media, endpoint, json_response
from quarterdeck.web.pages import HTML, fixed, page
from quarterdeck.web.problem_advice import ADVICE
from quarterdeck.web.problems import CATALOGUE, CONTENT_TYPE, NOT_FOUND, Refusal


class ProblemPage(msgspec.Struct, frozen=True):
    """What is said about one problem."""

    type: str
    slug: str
    status: int
    title: str
    meaning: str
    cause: str
    remedy: str


class ProblemIndex(msgspec.Struct, frozen=True):
    """Every problem that this service answers."""

    items: list[ProblemPage]


@functools.cache
def problem_pages() -> dict[str, ProblemPage]:
    """What is said about each problem, by the last part of its type."""
    return {
        family.slug: ProblemPage(
            type=f"/problems/{family.slug}",
            slug=family.slug,
            status=family.status,
            title=family.title,
            meaning=ADVICE[family.slug].meaning,
            cause=ADVICE[family.slug].cause,
            remedy=ADVICE[family.slug].remedy,
        )
        for family in CATALOGUE
        if family.slug in ADVICE
    }


@endpoint("GET", "/problems", summary="All problems", responses={200: (Media(HTML), ProblemIndex), 304: None})
async def list_problems(call: Call) -> quart.Response:
    """A page, or the same as JSON where `Accept` prefers that."""
    pages = list(problem_pages().values())
    if _prefers_json(call):
        return _as_json(ProblemIndex(pages))
    return fixed(call.request, page("problems.html", problems=pages, root="."), f"{HTML}; charset=utf-8", vary="Accept")


@endpoint(
    "GET",
    "/problems/{slug}",
    summary="What a problem means, and what to do about it",
    responses={200: (Media(HTML), ProblemPage), 304: None},
    problems=(NOT_FOUND,),
)
async def get_problem(call: Call, slug: str) -> quart.Response:
    """A page, or the same as JSON where `Accept` prefers that."""
    found = problem_pages().get(slug)
    if found is None:
        raise Refusal(NOT_FOUND, "There is no such problem")
    if _prefers_json(call):
        return _as_json(found)
    return fixed(call.request, page("problem.html", problem=found, root=".."), f"{HTML}; charset=utf-8", vary="Accept")


ENDPOINTS = (list_problems, get_problem)


def _prefers_json(call: Call) -> bool:
    offered = [HTML, JSON, CONTENT_TYPE]
    return call.request.accept_mimetypes.best_match(offered, default=HTML) != HTML


def _as_json(content: Any) -> quart.Response:
    return json_response(200, content, {"Vary": "Accept"})
