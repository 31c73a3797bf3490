"""The headers that requests may have and answers have, by route, as the interface's description names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from quarterdeck.web.idempotency import MAX_CHARACTERS
from quarterdeck.web.prefer import MAX_WAIT


class Header(msgspec.Struct, frozen=True):
    """A header: its name, what it means, the schema of its value, and an example where the value needs one."""

    name: str
    meaning: str
    schema: Mapping[str, Any]
    example: Any = None


_TEXT: Mapping[str, Any] = {"type": "string"}
_SECONDS: Mapping[str, Any] = {"type": "integer", "minimum": 0}

PREFER = Header(
    "Prefer",
    f"`wait=N` holds the answer for up to N seconds, at most {MAX_WAIT}, until the job has ended (RFC 7240)",
    _TEXT,
    "wait=5",
)
IDEMPOTENCY_KEY = Header(
    "Idempotency-Key",
    "The same key with the same body within 24 hours gets the first answer again and makes nothing new",
    {"type": "string", "pattern": f"^[!-~]([ -~]{{0,{MAX_CHARACTERS - 2}}}[!-~])?$"},
    "order-1234",
)
TRACEPARENT = Header(
    "traceparent",
    "The caller's trace (W3C Trace Context); kept with the job",
    _TEXT,
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)
IF_NONE_MATCH = Header("If-None-Match", "The `ETag` of an earlier answer: 304 where it still holds", _TEXT, '"1-4"')
IF_MATCH = Header("If-Match", "The `ETag` that the job must still have: 412 where it has another", _TEXT, '"1-4"')
LAST_EVENT_ID = Header("Last-Event-ID", "The last event that was seen; what follows it is sent", _TEXT, "4")

LOCATION = Header("Location", "The path of the job", {"type": "string", "format": "uri-reference"})
ETAG = Header("ETag", '`"<generation>-<seq>"` of the job', _TEXT, '"1-4"')
RETRY_AFTER = Header("Retry-After", "Seconds after which the same request is worth repeating", _SECONDS, 1)
PREFERENCE_APPLIED = Header("Preference-Applied", "The preference that was honoured", _TEXT, "wait=5")
DUPLICATE = Header("Quarterdeck-Duplicate", "`true`: the job was there already, by its unique key", {"const": "true"})
REPLAYED = Header("Idempotent-Replayed", "`true`: the first answer to this Idempotency-Key, again", {"const": "true"})
RATE_LIMIT = Header("RateLimit", "How it stands with the limit", _TEXT, '"max_depth";r=0;t=1')
RATE_LIMIT_POLICY = Header("RateLimit-Policy", "The limit that was reached", _TEXT, '"max_depth";q=10000')
REQUEST_ID = Header("X-Request-Id", "The id of the request, in the service's log too", _TEXT, "5f0c2a9be1d34a67")
ALLOW = Header("Allow", "The methods of the route", _TEXT, "GET, HEAD, OPTIONS")
CHALLENGE = Header("WWW-Authenticate", "How to authenticate", _TEXT, 'Bearer realm="quarterdeck"')

REQUEST: Mapping[str, tuple[Header, ...]] = {
    "POST /v1/jobs": (PREFER, IDEMPOTENCY_KEY, TRACEPARENT),
    "GET /v1/jobs/{id}": (PREFER, IF_NONE_MATCH),
    "GET /v1/jobs/{id}/result": (PREFER,),
    "PATCH /v1/jobs/{id}": (IF_MATCH,),
    "POST /v1/topics/{name}/messages": (IDEMPOTENCY_KEY,),
    "GET /openapi.json": (IF_NONE_MATCH,),
}
"""What a request may say in headers, by route."""

RESPONSE: Mapping[str, Mapping[int, tuple[Header, ...]]] = {
    "POST /v1/jobs": {
        200: (LOCATION, PREFERENCE_APPLIED, DUPLICATE, REPLAYED),
        202: (LOCATION, PREFERENCE_APPLIED, REPLAYED),
    },
    "GET /v1/jobs/{id}": {200: (ETAG, PREFERENCE_APPLIED), 304: (ETAG, PREFERENCE_APPLIED)},
    "GET /v1/jobs/{id}/result": {200: (PREFERENCE_APPLIED,), 202: (PREFERENCE_APPLIED, RETRY_AFTER)},
    "PATCH /v1/jobs/{id}": {200: (ETAG,)},
    "POST /v1/jobs/{id}/retry": {200: (ETAG,)},
    "POST /v1/topics/{name}/messages": {202: (REPLAYED,)},
    "GET /openapi.json": {200: (ETAG,), 304: (ETAG,)},
}
"""What an answer says in headers, by route and status."""

PROBLEM: Mapping[int, tuple[Header, ...]] = {
    401: (CHALLENGE,),
    405: (ALLOW,),
    409: (RETRY_AFTER,),
    429: (RETRY_AFTER, RATE_LIMIT, RATE_LIMIT_POLICY),
    503: (RETRY_AFTER,),
}
"""What a problem says in headers, by status."""
