"""Kinds over REST: what there are handlers for."""

from __future__ import annotations

from typing import Any

import msgspec
import quart

from quarterdeck.clock import rfc3339
from quarterdeck.domain.submission import KindDefaults
from quarterdeck.store.fleet import KnownKind
from quarterdeck.web.endpoint import Call, endpoint, json_response
from quarterdeck.web.job_list import PageQuery
from quarterdeck.web.paging import cursor_of, place_of


class KindBody(msgspec.Struct, frozen=True, kw_only=True):
    """A known kind: the JSON Schema of its arguments, and what a submit of it says by default.

    `live` workers run it, and `last_seen` is when one last told that it lives.
    """

    name: str
    schema: dict[str, Any]
    defaults: dict[str, Any]
    live: int
    first_seen: str
    last_seen: str


class KindPage(msgspec.Struct, frozen=True):
    """A page of kinds; `next` is the cursor of the next page, null on the last one."""

    items: list[KindBody]
    next: str | None


@endpoint("GET", "/v1/kinds", summary="List kinds", responses={200: KindPage})
async def list_kinds(call: Call, query: PageQuery) -> quart.Response:
    """Every kind that a process ever registered a handler for, by name."""
    (after,) = place_of(query.cursor, 1) if query.cursor is not None else [""]
    kinds = await call.service.engine.fleet.kinds(after, query.limit)
    following = cursor_of(kinds[-1].name) if len(kinds) == query.limit else None
    return json_response(200, KindPage([_body(kind) for kind in kinds], following))


ENDPOINTS = (list_kinds,)


def _body(kind: KnownKind) -> KindBody:
    return KindBody(
        name=kind.name,
        schema=kind.schema,
        defaults={**msgspec.structs.asdict(KindDefaults()), **kind.defaults},
        live=kind.live,
        first_seen=rfc3339(kind.first_seen),
        last_seen=rfc3339(kind.last_seen),
    )
