"""Api: the REST interface as the client commands use it. Slow to import: commands open one when they run."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import httpx

from quarterdeck.cli import advice, exits
from quarterdeck.cli.destination import Destination
from quarterdeck.cli.exits import CommandError
from quarterdeck.client.trust import trust
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


class Submitted(NamedTuple):
    """A job, and whether it was there before: another has its unique key, or the idempotency key was used already."""

    job: dict[str, Any]
    duplicate: bool
    replayed: bool


class _Passing(CommandError):
    """The service is not there just now."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exits.NO_SERVICE)


class Api:
    """A connection to a service; a context manager.

    Every method raises CommandError where the service cannot be reached or refuses.
    """

    def __init__(self, service: Destination) -> None:
        self.service = service
        headers = {"Accept": "application/json"}
        if service.api_key:
            headers["Authorization"] = f"Bearer {service.api_key}"
        try:
            # trust_env: a proxy or a .netrc of this machine is not meant for the service.
            self._client = httpx.Client(
                base_url=service.url,
                headers=headers,
                timeout=TIMEOUT,
                trust_env=False,
                verify=trust(httpx.URL(service.url)) or False,
            )
        except httpx.InvalidURL as error:
            raise _no_url(service, error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def submit(
        self, document: Mapping[str, Any], *, dry_run: bool = False, idempotency_key: str | None = None
    ) -> Submitted:
        """Submits a job and returns it; a dry run stores nothing, and returns it as it would be."""
        answer = self._call(
            "POST",
            "/v1/jobs",
            json=document,
            parameters={"dry_run": 1} if dry_run else {},
            headers={} if idempotency_key is None else {"Idempotency-Key": idempotency_key},
        )
        marks = ("Quarterdeck-Duplicate", "Idempotent-Replayed")
        return Submitted(answer.json(), *(answer.headers.get(name) == "true" for name in marks))

    def get(self, job_id: str) -> dict[str, Any]:
        """The job as it is now."""
        return self._ask("GET", _path_of(job_id))

    def page(self, path: str, **parameters: object) -> dict[str, Any]:
        """A page of a list; parameters that are None are left out, sequences are repeated."""
        given = {name: value for name, value in parameters.items() if value is not None}
        return self._ask("GET", path, parameters=given, members=("items", "next"))

    def notes(self, job_id: str, what: str, limit: int) -> list[dict[str, Any]]:
        """The latest `logs` or `outputs` of a job, the oldest of them first."""
        items: list[dict[str, Any]] = self.page(f"{_path_of(job_id)}/{what}", limit=limit)["items"]
        return items[::-1]

    def retry(self, job_id: str) -> dict[str, Any]:
        """Runs a job again, or now, and returns it."""
        return self._ask("POST", f"{_path_of(job_id)}/retry")

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancels a job, or asks it to stop where it runs."""
        return self._ask("POST", f"{_path_of(job_id)}/cancel")

    def items(self, path: str) -> Iterator[dict[str, Any]]:
        """Everything in a list, page by page."""
        page = self.page(path, limit=PAGE)
        yield from page["items"]
        while page["next"] is not None:
            page = self.page(path, limit=PAGE, cursor=page["next"])
            yield from page["items"]

    def update_queue(self, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Changes settings of a queue and returns it."""
        return self._ask(
            "PATCH",
            _path_of(name, "queues"),
            json=settings,
            members=("name", "depth"),
        )

    def wait(self, job_id: str, seconds: float = math.inf) -> dict[str, Any]:
        """The job once it has ended, or as it is after `seconds`. A service that restarts meanwhile is waited for."""
        end = time.monotonic() + seconds
        lost_at: float | None = None
        while True:
            began = time.monotonic()
            hold = max(0, min(LONGEST_WAIT, math.ceil(min(end - began, LONGEST_WAIT))))
            try:
                job = self._ask("GET", _path_of(job_id), hold=hold)
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

    def _ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        document: dict[str, Any] = self._call(method, path, **request).json()
        return document

    def _call(
        self,
        method: str,
        path: str,
        *,
        hold: int = 0,
        json: object = None,
        parameters: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        members: Sequence[str] = ("id", "state"),
    ) -> httpx.Response:
        """The answer, an object that has `members`."""
        prefer = {"Prefer": f"wait={hold}"} if hold else {}
        try:
            answer = self._client.request(
                method,
                path,
                json=json,
                params=parameters or None,
                headers={**(headers or {}), **prefer},
                timeout=TIMEOUT + hold,
            )
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise _no_url(self.service, error) from None
        except httpx.LocalProtocolError:
            # Not shown: what cannot be sent is a header, and one of them holds the key.
            raise CommandError("a key holds characters that cannot be sent", exits.WRONG_USAGE) from None
        except UnicodeError:
            words = "what was given holds characters that cannot be sent: a key is ASCII, and all else UTF-8"
            raise CommandError(words, exits.WRONG_USAGE) from None
        except httpx.TransportError as error:
            raise _Passing(self._unanswered(method, error, TIMEOUT + hold)) from None
        self._check(answer, members)
        return answer

    def _unanswered(self, method: str, error: httpx.TransportError, timeout: float) -> str:
        words = advice.unreachable(self.service, error)
        if isinstance(error, httpx.TimeoutException):
            words = f"{self.service.url} did not answer within {timeout:g} s: {advice.START_ONE}"
        never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        if method == "GET" or never_sent:
            return words
        return f"{words}; it may have done what was asked all the same, so look before you repeat it"

    def _check(self, answer: httpx.Response, members: Sequence[str]) -> None:
        try:
            document = answer.json()
        except (ValueError, RecursionError):
            document = None
        if answer.is_success and isinstance(document, dict) and document.keys() >= set(members):
            return
        status = answer.status_code
        if isinstance(document, dict) and "title" in document:
            words = advice.refused(self.service, answer, document)
        else:
            words = advice.not_ours(self.service, status, answer.headers.get("Location"))
        if status in _TRY_LATER:
            raise _Passing(words)
        raise CommandError(words, exits.NO_SERVICE)


def _path_of(name: str, what: str = "jobs") -> str:
    return f"/v1/{what}/{quote(name, safe='', errors='surrogateescape')}"


def _no_url(service: Destination, error: BaseException) -> CommandError:
    return CommandError(f"{service.url!r} is no URL of a service: {exits.one_line(error)}", exits.WRONG_USAGE)
