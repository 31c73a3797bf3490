"""One key, many requests at once, several processes: one job, one answer.

`QD_RACE_KEYS=200 pytest tests/e2e/test_idempotency_race.py` runs the full size.
"""

import asyncio
import os
from contextlib import AsyncExitStack

import httpx
import pytest

from tests.support.processes import running_service

KEYS = int(os.environ.get("QD_RACE_KEYS", "3"))
AT_ONCE = 200
PROCESSES = 3

pytestmark = pytest.mark.timeout(60 + 5 * KEYS)


async def test_every_key_makes_one_job_and_one_answer(tmp_path, database_url, connection):
    settings = {"QUARTERDECK_DATABASE_URL": database_url}
    async with AsyncExitStack() as stack:
        clients = []
        for number in range(PROCESSES):
            folder = tmp_path / str(number)
            folder.mkdir()
            service = await stack.enter_async_context(running_service(folder, settings=settings))
            limits = httpx.Limits(max_connections=AT_ONCE)
            client = httpx.AsyncClient(base_url=service.url, timeout=60, limits=limits, trust_env=False)
            clients.append(await stack.enter_async_context(client))
        for key in range(KEYS):
            answers = await asyncio.gather(*(post(clients[index % PROCESSES], key) for index in range(AT_ONCE)))
            bodies = {answer.content for answer in answers if answer.status_code == 202}
            assert len(bodies) == 1
            others = {answer.status_code for answer in answers} - {202}
            # Only a process that is still answering the first request says so.
            assert others <= {409}
            refused = [answer.json()["type"] for answer in answers if answer.status_code == 409]
            assert set(refused) <= {"/problems/idempotency-in-flight"}
    both = "(select id from quarterdeck.job union all select id from quarterdeck.job_history)"
    assert await connection.fetchval(f"select count(*) from {both} jobs") == KEYS


async def post(client, key):
    body = {"kind": "quarterdeck.echo", "args": {"key": key}}
    while True:
        answer = await client.post("/v1/jobs", json=body, headers={"Idempotency-Key": f"key-{key}"})
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            return answer
        # A machine that is too slow for so many at once says so, and is asked again.
        await asyncio.sleep(float(answer.headers["Retry-After"]))
