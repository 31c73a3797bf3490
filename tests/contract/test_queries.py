"""Query strings: read leniently as to types, since all of them are text, and strictly as to what they say."""

import pytest


@pytest.mark.parametrize("query", ["workflow_id=null", "workflow_id=NULL", "limit=null", "created_after=null"])
async def test_the_word_null_is_no_value(client, query):
    (await client.get(f"/v1/jobs?{query}")).problem(400, "bad-query")


async def test_where_text_is_asked_for_the_word_null_is_text(client):
    assert (await client.get("/v1/jobs?kind=null")).json["items"] == []
