"""Destination: which service a client command talks to, and as whom. Quick to import."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import urlsplit

from quarterdeck.cli import exits
from quarterdeck.cli.exits import CommandError
from quarterdeck.config import client_environment

if TYPE_CHECKING:
    from quarterdeck.cli.api import Api

DEFAULT_URL = "http://127.0.0.1:8000"

_HOST_ALONE = re.compile(r"(//)?[\w.-]+(:\d+)?(/[\w./-]*)?")


class Destination(NamedTuple):
    """A service: its URL without a slash at the end, the secret of a key, and where the key comes from."""

    url: str
    api_key: str | None
    key_from: str

    @classmethod
    def of(cls, url: str | None, api_key: str | None) -> Self:
        """From what was given on the command line, or else from the environment.

        Raises CommandError where that cannot be a URL or a key, and ConfigError where the environment cannot be read.
        """
        environment = client_environment()
        chosen = (url or environment.get("url") or DEFAULT_URL).strip()
        key = (api_key or environment.get("api_key") or "").strip()
        # It goes into a header, and what a header cannot hold would be shown in an error.
        if not key.isascii() or not (key or "-").isprintable():
            raise CommandError("the API key holds characters that no key has", exits.WRONG_USAGE)
        source = "--api-key" if api_key else "QUARTERDECK_API_KEY"
        return cls(_checked(chosen, "" if url else " in QUARTERDECK_URL").rstrip("/"), key or None, source)

    def open(self) -> Api:
        """A connection to it. Slow: imports what speaks HTTP."""
        from quarterdeck.cli.api import Api  # noqa: PLC0415 - slow

        return Api(self)


def _checked(url: str, source: str) -> str:
    if "@" in url:  # not shown: what stands before it is a secret
        words = "the URL of the service holds a user or a password: give a key, with --api-key or QUARTERDECK_API_KEY"
        raise CommandError(words, exits.WRONG_USAGE)
    refused = f"{url!r}{source} is no URL of a service: "
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise CommandError(f"{refused}{exits.one_line(error)}", exits.WRONG_USAGE) from None
    if parts.scheme not in ("http", "https") or not host:
        meant = f"; did you mean http://{url.lstrip('/')}?" if _HOST_ALONE.fullmatch(url) else ""
        raise CommandError(f"{refused}it begins with http:// or https://, then the host{meant}", exits.WRONG_USAGE)
    if parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise CommandError(f"{refused}it ends with the host, the port or a path", exits.WRONG_USAGE)
    return url
