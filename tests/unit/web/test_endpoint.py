import uuid
from typing import Literal

import msgspec
import pytest

from quarterdeck.web.endpoint import _query, endpoint
from quarterdeck.web.problems import Refusal


class Query(msgspec.Struct):
    flag: bool = False
    limit: int = 50
    order: Literal["asc", "desc"] = "asc"
    tag: list[str] = []
    before: str | None = None


@pytest.mark.parametrize(
    ("text", "query"),
    [
        (b"", Query()),
        (b"flag=1&limit=7", Query(flag=True, limit=7)),
        (b"flag=false", Query()),
        (b"order=desc", Query(order="desc")),
        (b"tag=a&tag=b%2Cc+d", Query(tag=["a", "b,c d"])),
        (b"before=%C3%BC", Query(before="ü")),
        (b"before=", Query(before="")),
        (b"&&limit=1&", Query(limit=1)),
    ],
)
def test_a_query_is_read_by_its_type(text, query):
    assert _query(Query, text) == query


@pytest.mark.parametrize(
    "text",
    [
        b"limits=1",
        b"limit",
        b"limit=many",
        b"limit=1&limit=1",
        b"flag=maybe",
        b"order=up",
        b"tag[]=a",
        b"before=%ff",
        b"before=\xff",
        b"tag=a&" * 101,
    ],
)
def test_what_does_not_fit_is_a_400_of_its_own(text):
    with pytest.raises(Refusal) as refusal:
        _query(Query, text)
    assert (refusal.value.status, refusal.value.family.slug) == (400, "bad-query")
    assert len(refusal.value.problem.detail) < 200


def test_an_endpoint_knows_what_its_handler_takes():
    class Body(msgspec.Struct):
        name: str

    async def rename(call, job_id, body, query):
        pass

    rename.__annotations__ = {"job_id": uuid.UUID, "body": Body, "query": Query}
    made = endpoint("PUT", "/v1/jobs/{id}/name", summary="Rename", responses={200: None})(rename)
    assert (made.name, made.parameters, made.body, made.query) == ("rename", (uuid.UUID,), Body, Query)


def test_a_path_and_its_handler_have_the_same_parameters():
    async def look(call):
        pass

    with pytest.raises(TypeError, match="different parameters"):
        endpoint("GET", "/v1/jobs/{id}", summary="", responses={})(look)
