"""Talking to a service over REST, as its users do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.processes import ServeProcess
from tests.support.waiting import eventually

TERMINAL = ("completed", "cancelled", "discarded")


class Rest:
    """A client of one service."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def submit(self, kind: str, wait: int = 0, **body: Any) -> dict[str, Any]:
        """Submit a job and return it; its end is waited for at most `wait` seconds."""
        headers = {"Prefer": f"wait={wait}"} if wait else {}
        answer = await self.client.post("/v1/jobs", json={"kind": kind, **body}, headers=headers)
        assert answer.status_code in (200, 202), answer.text
        return dict(answer.json())

    async def get(self, job_id: str) -> dict[str, Any]:
        """The job as it is now."""
        answer = await self.client.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == httpx.codes.OK, answer.text
        return dict(answer.json())

    async def started(self, job_id: str) -> dict[str, Any]:
        """The job once it runs."""

        async def running() -> dict[str, Any] | None:
            job = await self.get(job_id)
            return job if job["state"] == "running" else None

        return await eventually(running) or {}

    async def ended(self, job_id: str, within: float = 20.0) -> dict[str, Any]:
        """The job once it has ended."""

        async def over() -> dict[str, Any] | None:
            job = await self.get(job_id)
            return job if job["state"] in TERMINAL else None

        return await eventually(over, within) or {}


@asynccontextmanager
async def talking_to(service: ServeProcess) -> AsyncIterator[Rest]:
    """A client of `service`."""
    async with httpx.AsyncClient(base_url=service.url, timeout=30, trust_env=False) as client:
        yield Rest(client)


async def appears(path: Path, within: float = 20.0) -> None:
    """Wait until there is a file at `path`."""
    await eventually(path.exists, within)
