"""What the page about watching shows works: its commands, and its program."""

import httpx
import pytest

from tests.docs.documents import DOCS
from tests.docs.reader import console_blocks, reader_of, write_files
from tests.support.processes import running_service

PAGE = DOCS / "how-to" / "watch-jobs-live.md"
SECRET = "a-secret-that-is-long-enough"

PLAIN = [block for block in console_blocks(PAGE) if "keys" not in block.marker]
WITH_KEYS = [block for block in console_blocks(PAGE) if "keys" in block.marker]


@pytest.mark.timeout(120)
async def test_jobs_are_watched_as_the_page_says(tmp_path, database_url):
    async with running_service(tmp_path, settings={"QUARTERDECK_DATABASE_URL": database_url}) as service:
        write_files(PAGE, tmp_path, service.url)
        reader = reader_of(service, tmp_path)
        assert len(PLAIN) == 3
        for block in PLAIN:
            await reader.follow(block)


@pytest.mark.timeout(120)
async def test_a_page_gets_a_ticket_as_the_page_says(tmp_path, database_url):
    settings = {"QUARTERDECK_DATABASE_URL": database_url, "QUARTERDECK_API_KEYS": f"shop:{SECRET}"}
    async with running_service(tmp_path, settings=settings) as service:
        reader = reader_of(service, tmp_path, QUARTERDECK_API_KEY=SECRET)
        (block,) = WITH_KEYS
        await reader.follow(block)
        job = reader.variables.partition('"')[2].partition('"')[0]
        async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=20) as http:
            path = f"/v1/jobs/{job}/events"
            key = {"Authorization": f"Bearer {SECRET}"}
            assert (await http.get(path)).status_code == 401
            # As the script of the page asks, with `after` in the query; and once.
            ticket = (await http.post("/v1/tickets", json={"job": job}, headers=key)).json()["ticket"]
            first = await http.get(path, params={"after": 2, "ticket": ticket})
            assert "event: job.completed" in first.text
            assert "id: 2" not in first.text
            assert (await http.get(path, params={"ticket": ticket})).status_code == 401
            # After the last event there is nothing: an EventSource stops.
            ticket = (await http.post("/v1/tickets", json={"job": job}, headers=key)).json()["ticket"]
            assert (await http.get(path, params={"after": 3, "ticket": ticket})).status_code == 204
