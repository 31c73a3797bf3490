"""What to do next where a service refuses or cannot be reached, in words for the person at the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from quarterdeck.cli.destination import Destination
from quarterdeck.cli.exits import one_line
from quarterdeck.cli.output import printable_line

if TYPE_CHECKING:
    from httpx import Response

START_ONE = "start a service with `qd serve`, or name one with --url"

_BY_SLUG = {
    "unknown-kind": "`qd kinds` lists what it knows; `qd serve module:attribute` brings handlers of your own",
    "idempotency-mismatch": "take another --idempotency-key for another job",
    "idempotency-in-flight": "try again in a moment",
    "unique-key-taken": "wait until that job has ended, or cancel it",
    "job-running": "`qd jobs watch` follows it, `qd jobs cancel` stops it",
    "job-waiting": "it runs by itself: `qd workers` tells who could run it",
    "queue-full": "wait until some of its jobs have run, or raise its limit with `qd queues set NAME max_depth=N`",
    "misdirected": "name it by localhost or 127.0.0.1, or have it ask for keys (QUARTERDECK_API_KEYS)",
}
_BY_STATUS = {
    403: "use a key that may do this",
    405: "is it of another version?",
    413: "send less at once",
}


def refused(service: Destination, answer: Response, problem: Mapping[str, Any]) -> str:
    """A refusal in the service's words, and what may be done about it."""
    errors = problem.get("errors")
    found = [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    fields = [f"{error.get('pointer') or '/'}: {error.get('detail')}" for error in found]
    said = "; ".join([str(problem.get("detail") or problem.get("title")), *fields])
    path, retry_after = answer.request.url.path, answer.headers.get("Retry-After")
    then = next_step(service, answer.status_code, problem, path=path, retry_after=retry_after)
    return f"{service.url} refused: {printable_line(said)}{f'; {then}' if then else ''}"


def next_step(
    service: Destination, status: int, problem: Mapping[str, Any], *, path: str, retry_after: str | None = None
) -> str:
    """What may be done about a refusal of what was asked at `path`; empty where it says that itself."""
    slug = str(problem.get("type", "")).rpartition("/")[2]
    if status == 401 and service.api_key:
        return f"it does not know the key of {service.key_from}"
    if status == 401:
        return "give a key with --api-key or QUARTERDECK_API_KEY"
    if status == 404:
        return _not_found(service, path)
    if status == 500 and "error_id" in problem:
        return f"its log has the details under {printable_line(problem['error_id'])}"
    if status in (429, 503) and retry_after and retry_after.isdigit() and slug != "queue-full":
        return f"try again in {retry_after} s"
    return _BY_SLUG.get(slug) or _BY_STATUS.get(status, "")


def _not_found(service: Destination, path: str) -> str:
    if service.url.endswith("/v1"):
        return "leave /v1 out of the URL"
    if "/v1/jobs/" in path:
        return "is the id right? `qd jobs list` shows the jobs of the service"
    return "" if "/v1/queues/" in path else "is the URL right?"


def not_ours(service: Destination, status: int, location: str | None) -> str:
    """Somebody answers who is no Quarterdeck service."""
    if 300 <= status < 400 and location:
        return f"{service.url} sends elsewhere, to {printable_line(location)}: name the service by that with --url"
    if status in (502, 503, 504):
        return f"{service.url} answers {status}: a proxy is there, and the service behind it is not; try again later"
    return f"{service.url} answers {status}, but not as a Quarterdeck service: is the URL right?"


def unreachable(service: Destination, error: BaseException) -> str:
    """Nobody answers, or not in HTTP. `error` is what httpx raised."""
    words = printable_line(one_line(error))
    if "CERTIFICATE_VERIFY_FAILED" in words:
        return f"the certificate of {service.url} is not trusted ({words}): name a file of its issuer in SSL_CERT_FILE"
    if "SSL" in words and service.url.startswith("https:"):
        return f"{service.url} does not answer in TLS ({words}): does the URL begin with http://, or is the port wrong?"
    if type(error).__name__ == "RemoteProtocolError":
        return f"{service.url} does not answer in HTTP ({words}): is the port right, or does it want https://?"
    return f"no service can be reached at {service.url} ({words}): {START_ONE}"
