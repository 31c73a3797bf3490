"""The arguments of `quarterdeck.http`: what a type can say of them, and what it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from quarterdeck.domain.errors import ArgsError, FieldError
from quarterdeck.domain.jsonvalue import pointer
from quarterdeck.handlers.outbound import MAX_URL, read_url

MAX_HEADERS = 64
MAX_HEADER = 8192

# The pattern is for readers of the schema: `check` says in words what is wrong.
CallUrl = Annotated[
    str,
    Meta(
        max_length=MAX_URL,
        description="Where to call: http:// or https://",
        extra_json_schema={"pattern": "^[Hh][Tt][Tt][Pp][Ss]?://"},
    ),
]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# A `$` alone lets one line feed pass at the end, in Python.
HeaderName = Annotated[str, Meta(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$(?!\n)", max_length=128)]
HeaderValue = Annotated[str, Meta(pattern=r"^[\t -~\u0080-\u00ff]*$(?!\n)", max_length=MAX_HEADER)]
Headers = Annotated[
    dict[HeaderName, HeaderValue], Meta(max_length=MAX_HEADERS, description="Headers of the request, by name")
]
Status = Annotated[int, Meta(ge=200, le=599)]
Statuses = Annotated[
    list[Status],
    Meta(min_length=1, max_length=400, description="The answers that complete the job; unset: 200 to 299"),
]

OURS = {
    "idempotency-key": "the job's id is sent in it",
    "quarterdeck-fence": "the number of this run is sent in it",
}
"""Headers that every call carries, and why nobody else sets them."""

_MESSAGE = (
    *("connection", "content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
    *("proxy-authenticate", "proxy-authorization", "proxy-connection"),
)
"""Headers that say where the message goes and where it ends."""


def check(args: Mapping[str, Any]) -> None:
    """Raises ArgsError for what the types let pass."""
    try:
        read_url(args["url"])
    except ValueError as error:
        raise ArgsError(FieldError("/args/url", str(error))) from None
    for name in args["headers"]:
        place = pointer(("args", "headers", name))
        if reason := OURS.get(name.lower()):
            raise ArgsError(FieldError(place, reason))
        if name.lower() in _MESSAGE:
            raise ArgsError(FieldError(place, "is set by the service itself"))
    if args["json"] is not msgspec.UNSET and args["body"] is not None:
        raise ArgsError(FieldError("/args/body", "give either json or body"))
