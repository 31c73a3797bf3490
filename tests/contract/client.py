"""A client for contract tests: what was answered, decoded."""

from __future__ import annotations

from typing import Any

import msgspec
from quart import Quart


class Answer:
    """Status, headers and body of an answer."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)

    def problem(self, status: int, slug: str) -> Any:
        """The body, after checking that it is that problem."""
        assert self.headers["Content-Type"] == "application/problem+json", self.body
        problem = self.json
        assert (self.status, problem["status"], problem["type"]) == (status, status, f"/problems/{slug}"), problem
        assert problem["title"]
        assert problem["detail"]
        return problem

    @property
    def pointers(self) -> list[str]:
        """What a problem points at."""
        return [error["pointer"] for error in self.json.get("errors", [])]


class Client:
    """Calls an application without a network."""

    def __init__(self, app: Quart) -> None:
        self.app = app
        self._client = app.test_client(use_cookies=False)

    async def call(
        self, method: str, path: str, *, body: Any = None, text: bytes | None = None, headers: Any = None
    ) -> Answer:
        """Sends a request; `body` is sent as JSON, `text` as it is under whatever content type `headers` give."""
        given = dict(headers or {})
        if body is not None:
            text = msgspec.json.encode(body)
        if text is not None:
            given.setdefault("Content-Type", "application/json")
            given.setdefault("Content-Length", str(len(text)))
        # Not by open(): what that returns has default headers beside those that were sent.
        async with self._client.request(path, method=method, headers=given) as connection:
            await connection.send(text or b"")
            await connection.send_complete()
        assert connection.status_code is not None
        return Answer(connection.status_code, connection.headers, bytes(connection.response_data))

    async def get(self, path: str, **headers: str) -> Answer:
        """GET, with headers by name, `_` for `-`."""
        return await self.call("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    async def submit(
        self, kind: str, args: Any = None, /, *, headers: Any = None, query: str = "", **options: Any
    ) -> Answer:
        """POST /v1/jobs."""
        return await self.call(
            "POST", f"/v1/jobs{query}", body={"kind": kind, "args": args or {}, **options}, headers=headers
        )
