"""Api: the REST interface as the client commands use it. Slow to import: commands do so when they run."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from quarterdeck.cli import exits
from quarterdeck.cli.exits import CommandError
from quarterdeck.cli.options import DEFAULT_URL
from quarterdeck.config import client_environment
from quarterdeck.domain.state import TERMINAL

TIMEOUT = 10.0
"""Seconds for an answer, beside the time that the service was asked to wait."""
LONGEST_WAIT = 60
"""Seconds that one request may ask the service to wait."""
PAGE = 200
"""Items of a list that are asked for at once."""
PATIENCE = 30.0
"""Seconds that a wait for a job outlasts a service that is gone, as in a restart."""

_PAUSE = 0.5
_TRY_LATER = (502, 503, 504)


class _Passing(CommandError):
    """The service is not there just now."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exits.NO_SERVICE)


class Api:
    """A connection to a service; a context manager. `url` and `api_key` come from the environment where not given.

    Every method raises CommandError where the service cannot be reached or refuses.
    """

    def __init__(self, url: str | None = None, api_key: str | None = None) -> None:
        environment = client_environment()
        self.url = (url or environment.get("url") or DEFAULT_URL).rstrip("/")
        key = api_key or environment.get("api_key")
        headers = {"Accept": "application/json"}
        if key:
            if not key.isascii() or not key.isprintable():
                raise CommandError("the API key holds characters that no key has", exits.WRONG_USAGE)
            headers["Authorization"] = f"Bearer {key}"
        try:
            # trust_env: a proxy or a .netrc of this machine is not meant for the service.
            self._client = httpx.Client(base_url=self.url, headers=headers, timeout=TIMEOUT, trust_env=False)
        except httpx.InvalidURL as error:
            raise CommandError(f"{self.url!r} is no URL: {error}", exits.WRONG_USAGE) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def submit(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Submits a job and returns it."""
        return self._call("POST", "/v1/jobs", json=document)

    def get(self, job_id: str) -> dict[str, Any]:
        """The job as it is now."""
        return self._call("GET", f"/v1/jobs/{quote(job_id, safe='')}")

    def page(self, path: str, **parameters: object) -> dict[str, Any]:
        """A page of a list; parameters that are None are left out, sequences are repeated."""
        given = {name: value for name, value in parameters.items() if value is not None}
        return self._call("GET", path, parameters=given, member="items")

    def retry(self, job_id: str) -> dict[str, Any]:
        """Runs a job again, or now, and returns it."""
        return self._call("POST", f"/v1/jobs/{quote(job_id, safe='')}/retry")

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancels a job, or asks it to stop where it runs."""
        return self._call("POST", f"/v1/jobs/{quote(job_id, safe='')}/cancel")

    def items(self, path: str) -> Iterator[dict[str, Any]]:
        """Everything in a list, page by page."""
        page = self.page(path, limit=PAGE)
        yield from page["items"]
        while page["next"] is not None:
            page = self.page(path, limit=PAGE, cursor=page["next"])
            yield from page["items"]

    def update_queue(self, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Changes settings of a queue and returns it."""
        return self._call("PATCH", f"/v1/queues/{quote(name, safe='')}", json=settings, member="depth")

    def wait(self, job_id: str, seconds: float = math.inf) -> dict[str, Any]:
        """The job once it has ended, or as it is after `seconds`. A service that restarts meanwhile is waited for."""
        end = time.monotonic() + seconds
        lost_at: float | None = None
        while True:
            began = time.monotonic()
            hold = max(0, min(LONGEST_WAIT, math.ceil(min(end - began, LONGEST_WAIT))))
            try:
                job = self._call("GET", f"/v1/jobs/{quote(job_id, safe='')}", hold=hold)
            except _Passing:
                lost_at = lost_at or began
                if began - lost_at > PATIENCE or began >= end:
                    raise
            else:
                lost_at = None
                if job["state"] in TERMINAL or time.monotonic() >= end:
                    return job
            # An answer before its time comes from a service that stops; the one after it is not there yet.
            if hold and time.monotonic() - began < _PAUSE:
                time.sleep(max(0.0, min(_PAUSE, end - time.monotonic())))

    def _call(
        self,
        method: str,
        path: str,
        *,
        hold: int = 0,
        json: object = None,
        parameters: Mapping[str, Any] | None = None,
        member: str = "state",
    ) -> dict[str, Any]:
        """The answer, an object that has `member`."""
        headers = {"Prefer": f"wait={hold}"} if hold else {}
        try:
            answer = self._client.request(
                method, path, json=json, params=parameters, headers=headers, timeout=TIMEOUT + hold
            )
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.LocalProtocolError) as error:
            raise CommandError(f"{self.url!r} is no URL of a service: {error}", exits.WRONG_USAGE) from None
        except httpx.TimeoutException:
            raise _Passing(f"{self.url} did not answer within {TIMEOUT + hold:g} s") from None
        except httpx.TransportError as error:
            advice = "start a service with `qd serve`, or name one with --url"
            raise _Passing(f"no service can be reached at {self.url} ({exits.one_line(error)}): {advice}") from None
        return self._read(answer, member)

    def _read(self, answer: httpx.Response, member: str) -> dict[str, Any]:
        try:
            document = answer.json()
        except ValueError:
            document = None
        if answer.is_success and isinstance(document, dict) and member in document:
            return document
        problem = document if isinstance(document, dict) and "title" in document else None
        if problem is None:
            words = f"{self.url} answers {answer.status_code}, but not as a Quarterdeck service: is the URL right?"
        else:
            words = f"{self.url} refused: {_explained(problem)}"
        if answer.status_code == 401:
            words += "; give a key with --api-key or QUARTERDECK_API_KEY"
        if answer.status_code in _TRY_LATER:
            raise _Passing(words)
        raise CommandError(words, exits.NO_SERVICE)


def _explained(problem: Mapping[str, Any]) -> str:
    fields = [f"{error.get('pointer') or '/'}: {error.get('detail')}" for error in problem.get("errors") or []]
    return "; ".join([str(problem.get("detail") or problem["title"]), *fields])
